"""A store holds what was committed and nothing else, whatever was done to it before."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from simba_actors.events import StepOpened
from simba_actors.search.rollout import RolloutKey
from simba_actors.store import Owner
from simba_actors.store.records import CloseStep, ReserveCalls, SetStatus
from simba_actors.store.store import Store
from tests.store.ledgers import claimed, result, step


@dataclass
class Model:
    """The contents that the store must have."""

    steps: dict[int, int | None] = field(default_factory=dict[int, "int | None"])
    scores: dict[RolloutKey, float | None] = field(default_factory=dict[RolloutKey, "float | None"])
    events: int = 0
    reserved: int = 0
    status: str = "running"


class StoreMachine(RuleBasedStateMachine):
    """Compares a store with a plain model of it, over writes, crashes and reopenings in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = Path(tempfile.mkdtemp())
        self.owner = Owner.this_process()
        self.model = Model()

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def commit(self, *writes: Any, events: tuple[Any, ...] = ()) -> None:
        self.wait(self.store.commit("run", self.owner, writes, events))

    @initialize()
    def open(self) -> None:
        self.store: Store = self.wait(claimed(self.directory / "simba.db", self.owner))

    @rule(count=st.integers(1, 4))
    def open_step(self, count: int) -> None:
        number = len(self.model.steps)
        opened = step(number, count)
        self.commit(opened, events=(StepOpened(step=number, examples=tuple(range(count))),))
        self.model.steps[number] = None
        self.model.scores.update(dict.fromkeys(rollout.key for rollout in opened.rollouts))
        self.model.events += 1

    @precondition(lambda self: self.model.steps)
    @rule(data=st.data(), score=st.integers(0, 9))
    def record_a_result(self, data: st.DataObject, score: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.model.steps)))
        rollouts = [rollout for rollout in step(number, 4).rollouts if rollout.key in self.model.scores]
        rollout = data.draw(st.sampled_from(rollouts))
        self.commit(result(rollout, float(score)))
        if self.model.scores[rollout.key] is None:  # A result that is stored already stays.
            self.model.scores[rollout.key] = float(score)

    @precondition(lambda self: self.model.steps)
    @rule(value=st.integers())
    def close_step(self, value: int) -> None:
        number = max(self.model.steps)
        self.commit(CloseStep(number, value % 1000))
        if self.model.steps[number] is None:
            self.model.steps[number] = value % 1000

    @rule(calls=st.integers(1, 5))
    def reserve(self, calls: int) -> None:
        self.commit(ReserveCalls(calls))
        self.model.reserved += calls

    @rule(status=st.sampled_from(["running", "paused", "failed"]))
    def set_status(self, status: Any) -> None:
        self.commit(SetStatus(status))
        self.model.status = status

    @rule()
    def crash_within_a_commit(self) -> None:
        """Crash in the middle of a commit: nothing of it is stored."""
        number = len(self.model.steps)
        self.wait(self._interrupted(number))
        self.abandon()

    async def _interrupted(self, number: int) -> None:
        db = self.store._db
        await db.execute("BEGIN IMMEDIATE")
        await db.execute("INSERT INTO steps (run_id, step, plan) VALUES ('run', ?, 'null')", [number])
        await db.execute("UPDATE runs SET status = 'failed', calls_reserved = -1")

    @rule()
    def abandon(self) -> None:
        """Continue with copies of the files as they are now, as after a kill."""
        copy = self.directory / "copy"
        copy.mkdir()
        for file in self.directory.glob("simba.db*"):
            shutil.copyfile(file, copy / file.name)
        self.wait(_abandon(self.store))
        for file in self.directory.glob("simba.db*"):
            file.unlink()
        for file in copy.iterdir():
            file.rename(self.directory / file.name)
        copy.rmdir()
        self.open()

    @rule()
    def reopen(self) -> None:
        self.wait(self.store.release("run", self.owner))
        self.wait(self.store.close())
        self.open()

    @invariant()
    def holds_what_was_committed(self) -> None:
        if not hasattr(self, "store"):
            return
        read, model = self.store.read, self.model
        steps = {stored.step: stored.result for stored in self.wait(read.steps("run"))}
        records = [record for number in model.steps for record in self.wait(read.rollouts("run", number, "sample"))]
        scores = {r.rollout.key: None if r.trajectory is None else r.trajectory.score for r in records}
        usage = self.wait(read.usage("run"))
        done = [score for score in model.scores.values() if score is not None]
        assert steps == model.steps
        assert scores == model.scores
        assert {score.key: score.score for score in self.wait(read.scores("run"))} == {
            key: score for key, score in model.scores.items() if score is not None
        }
        assert [event.seq for event in self.wait(read.events("run"))] == list(range(1, model.events + 1))
        assert (usage.calls, usage.tokens) == (max(len(done), model.reserved), 15 * len(done))
        assert self.wait(read.rollouts_done("run")) == len(done)
        assert self.wait(read.spending("run")).calls == model.reserved
        assert self.wait(read.run("run")).status == model.status

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.wait(self.store.close())
        self.loop.close()
        shutil.rmtree(self.directory)


async def _abandon(store: Store) -> None:
    """Return when the threads of the store have ended."""
    store.abandon()
    for thread in (store._db._thread, *(lease._thread for lease in store._leases.values())):
        await asyncio.to_thread(thread.join)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
