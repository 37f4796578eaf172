"""What a run returns is small plain data, however long it was."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import sys
import threading
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import TypeAdapter

from simba_actors import Finalist, Optimizer, OptimizerResult, Status, evaluate
from simba_actors.errors import MissingExtraError
from simba_actors.events import Event, TrajectorySampled
from simba_actors.search.progress import StepProgress
from simba_actors.search.quality import Quality
from simba_actors.search.rollout import Usage
from simba_actors.store.queries.score_queries import Standing
from tests.support.quiz import questions
from tests.support.runs import events_of, finish, reach, small_config

STEPS = 5_000
A_FEW_KB = 5_000


def test_a_status_after_thousands_of_steps_is_a_few_kb() -> None:
    progress = StepProgress(STEPS, Quality(7, 0.5, 0.4, 0.6), 0.5, (0.0, 1.0), Usage(calls=STEPS), float(STEPS))
    scored = Standing(7, 0.5, 0.4, 0.6, 50)
    usage = {"student": Usage(1)}
    status = Status("run", "running", None, STEPS, STEPS, scored, scored, 10 * STEPS, {}, progress, usage)
    forms = [
        json.dumps(status.to_json()),
        json.dumps(dataclasses.asdict(status)),
        TypeAdapter(Status).dump_json(status).decode(),
    ]
    assert max(map(len, forms)) < A_FEW_KB
    assert len(repr(status)) < A_FEW_KB


async def test_a_result_is_small_plain_data_beside_its_programs(tmp_path: Path) -> None:
    result = await finish(small_config(tmp_path / "simba.db"))
    assert json.loads(TypeAdapter(OptimizerResult).dump_json(result)) == result.to_json()
    assert result.finalists[0].score == result.score == result.candidate_programs[0]["score"]


async def test_a_result_prints_as_a_short_summary_and_its_repr_is_one_line(tmp_path: Path) -> None:
    result = await finish(small_config(tmp_path / "simba.db", run_id="run"))
    assert len(str(result).splitlines()) <= 20
    assert "\n" not in repr(result)
    assert repr(result).startswith("OptimizerResult(run_id='run', program=")


@pytest.mark.parametrize(
    ("ranked_on", "reason"),
    [("trainset", "a high mean of few rollouts may be luck"), ("valset", "stayed in the finals")],
)
def test_a_summary_says_why_a_runner_up_with_a_higher_mean_did_not_win(ranked_on: Any, reason: str) -> None:
    winner, lucky, student = (Finalist(n, score, 0.0, 1.0, 4) for n, score in ((3, 0.9), (5, 1.0), (0, 0.2)))
    result = OptimizerResult("run", 0.9, (winner, lucky, student), student, ranked_on, 2, Usage(), {}, 1.0, "done")
    object.__setattr__(result, "changes", "")
    assert reason in result.summary()
    assert reason in result._repr_html_()
    expected = dataclasses.replace(result, finalists=(lucky, winner, student))
    object.__setattr__(expected, "changes", "")
    assert reason not in expected.summary()


async def test_a_summary_has_the_student_and_the_winner_with_their_intervals(tmp_path: Path) -> None:
    result = await finish(small_config(tmp_path / "simba.db"))
    winner, student = result.finalists[0], result.student
    assert student is not None
    assert f"student:    {student.score:.3f} ({student.low:.3f} to {student.high:.3f}) from 8 rollouts" in str(result)
    assert f"winner:     {winner.score:.3f} ({winner.low:.3f} to {winner.high:.3f}) from 8 rollouts" in str(result)


async def test_a_summary_shows_what_changed_in_the_prompt(tmp_path: Path) -> None:
    result = await finish(small_config(tmp_path / "simba.db"))
    program: Any = result.program
    added = program.signature.instructions.splitlines()[-1]
    assert f"  +{added}" in str(result).splitlines()
    assert f"+{added}" in result.changes.splitlines()


async def test_the_finalists_of_a_valset_say_how_much_of_it_is_behind_their_scores(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db", policy="adaptive", valset=questions(8, start=100), max_steps=6)
    result = await finish(config)
    assert result.ranked_on == "valset"
    assert sum(each.rollouts for each in result.finalists) <= 3 * 8
    assert all(each.low is not None and each.low <= each.score for each in result.finalists)


async def test_a_result_can_be_pickled_and_copied_with_its_programs(tmp_path: Path) -> None:
    result = await finish(small_config(tmp_path / "simba.db"))
    for again in (pickle.loads(pickle.dumps(result)), copy.copy(result), copy.deepcopy(result)):
        assert (str(again), again.to_json()) == (str(result), result.to_json())
        assert again.program.dump_state() == result.program.dump_state()
    assert copy.deepcopy(result).program is not result.program


async def test_a_result_that_cannot_be_pickled_says_what_to_do(tmp_path: Path) -> None:
    result = await finish(small_config(tmp_path / "simba.db"))
    result.program.lock = threading.Lock()  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(pickle.PicklingError, match=r"save\('best.json'\)"):
        pickle.dumps(result)


async def test_a_dataframe_has_a_row_for_each_program(tmp_path: Path) -> None:
    result = await finish(small_config(tmp_path / "simba.db"))
    table = result.to_dataframe().set_index("program")
    assert list(table.index) == list(range(len(table)))
    (winner,) = table.index[table["rank"] == 1]
    assert winner == result.finalists[0].number
    assert table.score[winner] == pytest.approx(result.score)
    assert table["self.instructions"][winner] == cast("Any", result.program).signature.instructions


async def test_without_pandas_an_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = await finish(small_config(tmp_path / "simba.db"))
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'simba_actors\[dataframe\]'"):
        result.to_dataframe()


async def test_all_rollouts_of_a_run_are_iterated_over_once(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db")
    async with Optimizer.start(config) as optimizer:
        during = [record async for record in optimizer.rollouts()]
        after = [record async for record in optimizer.rollouts()]
        rollouts = (await optimizer.status()).rollouts
    keys = [record.rollout.key for record in during]
    assert len(keys) == len(set(keys)) == rollouts
    assert {record.rollout.key for record in after} == set(keys)
    assert all(record.trajectory is not None for record in during)


async def test_an_event_has_its_kind_and_its_stamp_as_json(tmp_path: Path) -> None:
    async with Optimizer.start(small_config(tmp_path / "simba.db", run_id="run")) as optimizer:
        event: Event = await reach(optimizer, TrajectorySampled)
    stored = json.loads(json.dumps(event.to_json()))
    assert (stored["kind"], stored["run_id"], stored["seq"]) == ("TrajectorySampled", "run", event.seq)


@pytest.mark.filterwarnings("error")
async def test_pydantic_reads_what_it_wrote_of_events_rollouts_and_evaluations(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db")
    async with Optimizer.start(config) as optimizer:
        events = {type(event): event for event in await events_of(optimizer, Event)}
        record = await anext(optimizer.rollouts())
    evaluation = await evaluate(config.student, config.trainset, config.metric, lm=config.lm)
    assert TrajectorySampled in events
    for each in (*events.values(), record, evaluation):
        adapter = TypeAdapter[Any](type(each))
        assert adapter.validate_json(adapter.dump_json(each)) == each
