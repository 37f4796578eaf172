"""What a run does around each of its LM calls, whoever makes it: rollouts, judges and rule writers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from simba_actors.errors import LeaseLostError, LMUnavailableError, StoreError
from simba_actors.events import CallRetried
from simba_actors.lm.budget import COUNTED, BudgetTracker, CallSize
from simba_actors.lm.governor import Caller, Fault
from simba_actors.lm.usage import calls, prompt_characters, reported_cost, tokens
from simba_actors.observe.telemetry import Telemetry
from simba_actors.store import Owner
from simba_actors.store.ownership import check_owner
from simba_actors.team.messages import COORDINATOR, SilenceBegun, SilenceEnded, Teammates
from simba_actors.team.run_state import Gate, Lease, Silence


class CallHooks:
    """Allows LM calls while this process owns the run and its budget lasts, and reports their outcomes.

    Args:
        run_id: The run.
        store: The run's store.
        owner: The run's owner in this process.
        lease: Says whether another process may own the run by now.
        lost: Called in the event loop once another process is known to own the run.
        budget: Counts the calls.
        gate: Closed while no call may be sent.
        teammates: The actors of the run, which store an event for each repeated call and learn of silent endpoints.
        telemetry: Counts answers.
    """

    def __init__(
        self,
        *,
        run_id: str,
        store: Path,
        owner: Owner,
        lease: Lease,
        lost: Callable[[LeaseLostError], None],
        budget: BudgetTracker,
        gate: Gate,
        teammates: Teammates,
        telemetry: Telemetry,
    ) -> None:
        self._run_id, self._store, self._owner = run_id, store, owner
        self._lease, self._lost = lease, lost
        self._budget = budget
        self._gate = gate
        self._teammates = teammates
        self._telemetry = telemetry
        self._loop = asyncio.get_running_loop()
        coordinator = teammates.via(COORDINATOR)
        self._silence = Silence(
            begun=lambda reason: coordinator.cast_nowait(SilenceBegun(reason)),
            ended=lambda: coordinator.cast_nowait(SilenceEnded()),
        )

    def caller(self) -> Caller:
        """Return the hooks in the form that a governor takes."""
        return Caller(
            gate=self._gate,
            before_call=self._before_call,
            after_call=self._budget.after_call,
            before_blocking_call=self._before_blocking_call,
            not_sent=self._budget.not_sent,
            on_fault=self._on_fault,
            on_answer=self._on_answer,
        )

    def _check_owned(self) -> None:
        error = self._gate.failure.error
        if isinstance(error, LeaseLostError):
            raise LMUnavailableError("another process owns the run: no more calls are sent") from error

    async def _before_call(self, size: CallSize) -> None:
        self._check_owned()
        if self._lease.is_over:
            await self._teammates.commit([])  # Renews the lease, or ends the run in this process.
        await self._budget.before_call(size)
        try:
            self._check_owned()  # The loss may have become known meanwhile.
        except BaseException:
            self._budget.after_call(size)
            raise

    def _before_blocking_call(self, size: CallSize) -> None:
        self._check_owned()
        try:
            if self._lease.is_over:
                check_owner(self._store, self._run_id, self._owner)
            self._budget.before_blocking_call(size)
        except LeaseLostError as error:
            self._loop.call_soon_threadsafe(self._lost, error)
            raise LMUnavailableError(str(error)) from error
        except StoreError as error:
            raise LMUnavailableError(
                f"an LM call was not sent, because the store could not be checked first: {error}"
            ) from error

    def _on_fault(self, fault: Fault) -> None:
        event = CallRetried(endpoint=fault.endpoint, error=fault.error, attempt=fault.attempt, delay=fault.delay)
        self._teammates.report(event)
        self._silence.failed(f"{fault.endpoint}: {fault.error}")

    def _on_answer(self, entry: Mapping[str, Any]) -> None:
        self._silence.answered()
        counts = calls(entry), entry.get(COUNTED, 1)
        self._budget.answered(*tokens(entry), reported_cost(entry), prompt_characters(entry), *counts)
        self._telemetry.lm_answered(entry)
