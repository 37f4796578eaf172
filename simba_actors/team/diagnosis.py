"""Telling an outage from an example that is to blame, where needed by running a rollout that was answered before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from simba_actors.errors import BudgetReachedError, CallRejectedError, InfrastructureError, MetricError
from simba_actors.evaluation.executor import Executor, RolloutTask
from simba_actors.events import ExampleSetAside
from simba_actors.runtime.logs import get_logger
from simba_actors.search.rollout import Rollout, Split
from simba_actors.team.messages import COORDINATOR, POOL_KEEPER, BudgetSpent, ReadConfiguration, Teammates
from simba_actors.team.run_state import Pausing, cause_of
from simba_actors.team.setting_aside import TRIES, Heard, SettingAside

logger = get_logger(__name__)

PROBE_TEMPERATURE = 1.0
"""Temperature of a rollout that shows whether an LM is reachable. At 0, a cache could answer it."""


class Diagnostician:
    """Finds out why rollouts met an infrastructure failure, and pauses the run or sets an example aside.

    Args:
        teammates: The other actors.
        executor: Runs rollouts that show whether an LM is reachable.
        pausing: Whether the run is paused.
        setting_aside: What is known of examples and LMs.
    """

    def __init__(self, teammates: Teammates, executor: Executor, pausing: Pausing, setting_aside: SettingAside) -> None:
        self._teammates = teammates
        self._executor = executor
        self._pausing = pausing
        self._setting_aside = setting_aside
        self._probing = asyncio.Lock()

    async def diagnose(
        self,
        rollout: Rollout,
        error: InfrastructureError,
        *,
        epoch: int,
        before: Heard,
        others: Iterable[tuple[Split, int]],
    ) -> Literal["try again", "set aside"]:
        """Pause the run if the failure is an outage, and set the example aside if it is to blame.

        `epoch` and `before` are the pausing epoch in which this try began and what was heard by then. For `others`, see
        `SettingAside.note_failure`.
        """
        if self._setting_aside.has(rollout):
            return "set aside"
        where, diagnosis = f"{rollout.split}set[{rollout.example}]", "outage"
        rejected = isinstance(error, CallRejectedError)
        if rejected or cause_of(error) == "outage":
            diagnosis = self._setting_aside.note_failure(
                rollout, before, others=others, endpoint=error.endpoint, rejected=rejected
            )
        if diagnosis == "unclear":
            try:
                is_reachable = await self._is_reachable(rollout, error.endpoint, epoch)
            except BudgetReachedError as reached:
                self._teammates.via(COORDINATOR).cast_nowait(BudgetSpent(reached.cap))
                return "try again"
            if self._setting_aside.has(rollout):
                return "set aside"
            diagnosis = self._setting_aside.blame(rollout, before) if is_reachable else "outage"
        if diagnosis == "outage":
            self._teammates.report_outage(error, epoch, self._pausing, where)
        if diagnosis != "set aside":
            return "try again"
        logger.warning(
            "the run continues without %s, which is set aside: it failed %d times while the LM answered others: %s",
            where,
            TRIES,
            error,
        )
        event = ExampleSetAside(split=rollout.split, example=rollout.example, reason=str(error))
        await self._teammates.commit_later([], [event])
        return "set aside"

    async def _is_reachable(self, rollout: Rollout, endpoint: str | None, epoch: int) -> bool:
        """Return whether the LM that failed a rollout, at that endpoint if it is known, answers another one now.

        That one is a rollout that it has answered before. The result is not evidence.
        """
        lm = rollout.model.lm
        async with self._probing:
            for witness in self._setting_aside.witnesses(lm, endpoint):
                is_late = self._pausing.reason is not None or self._pausing.epoch != epoch
                if is_late or self._setting_aside.has(rollout):
                    return False
                before = self._setting_aside.heard
                try:
                    has_called = await self._probe(witness)
                except InfrastructureError as error:
                    self._setting_aside.add_caller(witness, error.endpoint)
                    return False
                if has_called:
                    self._setting_aside.note_calls(witness, before)
                heard = self._setting_aside.heard
                if has_called if endpoint is None else heard.answers_of(endpoint) > before.answers_of(endpoint):
                    return True
                self._setting_aside.remove_caller(witness, endpoint)
        return False

    async def _probe(self, witness: Rollout) -> bool:
        """Run a rollout afresh, and return whether it has called an LM."""
        configuration = await self._teammates.via(POOL_KEEPER).call(ReadConfiguration(witness.program), timeout=None)
        # A reply from a cache would tell nothing.
        fresh = replace(witness.model, rollout_id=time.time_ns(), temperature=PROBE_TEMPERATURE)
        task = RolloutTask(configuration, witness.example, fresh, witness.split)
        # In a task of its own, since the failure to diagnose is being handled: it would be the context of the student's
        # own errors, which would then count as its consequences.
        running = asyncio.create_task(self._executor.run(task), name="rollout that shows whether an LM is reachable")
        try:
            return (await running).usage.calls > 0
        except MetricError:
            return True
