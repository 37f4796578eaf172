"""What a run returns is small plain data, however long it was."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from simba_actors import Optimizer, OptimizerResult, Progress, Status
from simba_actors.events import Event, TrajectorySampled
from simba_actors.search.quality import Quality
from simba_actors.search.trajectory import Usage
from tests.support.runs import finish, reach, small_config

STEPS = 5_000
A_FEW_KB = 5_000


@pytest.fixture
def long_status() -> Status:
    progress: Progress | None = None
    for step in range(1, STEPS + 1):
        best = Quality(step, 0.5, 0.4, 0.6)
        progress = Progress(step, best, 0.5, (0.0, 1.0), Usage(calls=step), float(step), before=progress)
    return Status("run", "running", None, STEPS, STEPS, (7, 0.5), 10 * STEPS, {}, progress, {"student": Usage(1)})


def test_a_status_after_thousands_of_steps_is_a_few_kb(long_status: Status) -> None:
    forms = [
        json.dumps(long_status.to_json()),
        json.dumps(dataclasses.asdict(long_status)),
        TypeAdapter(Status).dump_json(long_status).decode(),
    ]
    assert max(map(len, forms)) < A_FEW_KB
    assert len(repr(long_status)) < A_FEW_KB


def test_progress_still_has_its_history(long_status: Status) -> None:
    assert long_status.progress is not None
    assert [each.step for each in long_status.progress.history] == list(range(1, STEPS + 1))


async def test_a_result_is_small_plain_data_beside_its_programs(tmp_path: Path) -> None:
    result = await finish(small_config(tmp_path / "simba.db"))
    assert json.loads(TypeAdapter(OptimizerResult).dump_json(result)) == result.to_json()
    assert result.finalists[0].score == result.score == result.candidate_programs[0]["score"]


async def test_a_result_prints_as_a_short_summary_and_its_repr_is_one_line(tmp_path: Path) -> None:
    result = await finish(small_config(tmp_path / "simba.db", run_id="run"))
    assert len(str(result).splitlines()) == 10
    assert "\n" not in repr(result)
    assert repr(result).startswith("OptimizerResult(run_id='run', program=")


async def test_an_event_has_its_kind_and_its_stamp_as_json(tmp_path: Path) -> None:
    async with Optimizer.start(small_config(tmp_path / "simba.db", run_id="run")) as optimizer:
        event: Event = await reach(optimizer, TrajectorySampled)
    stored = json.loads(json.dumps(event.to_json()))
    assert (stored["kind"], stored["run_id"], stored["seq"]) == ("TrajectorySampled", "run", event.seq)
