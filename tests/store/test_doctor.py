"""The doctor finds damage that SQLite does not notice."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import dspy
import pytest

from simba_actors.evaluation import scoring
from simba_actors.events import RunFinished, RunPaused
from simba_actors.lm.governor import Governor
from simba_actors.lm.retry import Retry
from simba_actors.programs import Configuration
from simba_actors.publishing.canary import record_scores
from simba_actors.publishing.channel import Channel
from simba_actors.publishing.online_examples import OnlineExample, keep_examples
from simba_actors.store import Owner, doctor
from simba_actors.store.doctor import check
from simba_actors.store.forking import fork
from simba_actors.store.records import (
    AddProgram,
    CloseStep,
    Program,
    RecordProposal,
    RecordSpending,
    ReserveCalls,
    SetStatus,
)
from tests.store.ledgers import claimed, results, step
from tests.support.openai_server import Faults, OpenAIServer
from tests.support.quiz import legible_script
from tests.support.runs import finish, small_config

CONFIGURATION = Configuration.of({"self": ("Say one. " * 30, [{"q": "1", "a": "one"}])})


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    path, owner = tmp_path / "simba.db", Owner.this_process()
    writer = await claimed(path, owner)
    program = Program(0, CONFIGURATION.digest, CONFIGURATION.to_json(), (), "student", -1)
    await writer.commit(
        "run",
        owner,
        [
            AddProgram(program),
            step(0),
            *results(step(0).rollouts),
            RecordProposal(0, 0, {"examples": [1]}, None, "no idea"),
            ReserveCalls(9),
            RecordSpending(100, 0.5, 1.0),
            CloseStep(0, {"winner": None}, [1, 2]),
            SetStatus("finished", "all of its steps are done", {"cap": None, "ranking": [[0, 0.5]]}),
        ],
        [RunPaused(reason="tea"), RunFinished(program=0, score=0.5)],
    )
    await writer.close()
    async with await Channel.open(path, "bot") as channel:
        await channel.publish(CONFIGURATION, expected=0, reason="first")
    example = OnlineExample({"q": "How many? " * 30}, {"a": "one"}, [], 1, 0.5, 1.0)
    with closing(sqlite3.connect(path)) as db, db:
        record_scores(db, "bot", [(2, "2-1-x", 1, 0.5, 1.0)])
        keep_examples(db, "bot", [example], most=5)
    return path


async def failed_checks(path: Path) -> list[str]:
    return [finding.what for finding in await check(path) if not finding.ok]


async def test_a_store_in_order_passes_all_checks(store: Path) -> None:
    assert await failed_checks(store) == []


ROW = "every row is as it was written"
WINNER = "every run's winner is that of its last event about it"


TOTALS = "every run's totals are no less than those of its results"
SCORES = "every score of a live call is a score"
EXAMPLES = "every online example has the digest of its inputs"


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("UPDATE rollouts SET score = 0.999 WHERE position = 1", ROW),
        ("UPDATE rollouts SET example = 7 WHERE position = 1", ROW),
        ("UPDATE rollouts SET trajectory = replace(trajectory, '1.0', '2.0') WHERE position = 1", ROW),
        ("UPDATE steps SET plan = '[]'", ROW),
        ("UPDATE steps SET progress = '[1,3]'", ROW),
        ("UPDATE proposals SET calls = 7", ROW),
        ("UPDATE programs SET parents = '[4]'", ROW),
        ("UPDATE events SET time = time + 1", ROW),
        ("UPDATE publications SET version = 2", ROW),
        (
            "UPDATE runs SET result = replace(result, '0.5', '0.7')",
            "every run's winner is that of its last event about it",
        ),
        ("UPDATE runs SET settings = '{'", "every run can be read"),
        ("UPDATE runs SET status = 'ginished'", "every run can be read"),
        ("UPDATE steps SET run_id = 'another'", "every row's run is there"),
        ("UPDATE rollouts SET model = '{' WHERE position = 1", "tallies agree with the rollouts"),
        ("UPDATE rollouts SET model = '{' WHERE position = 1", ROW),
        ("UPDATE tallies SET scores = scores + 0.5", "tallies agree with the rollouts"),
        ("UPDATE runs SET calls_reserved = 0, tokens_used = 1", TOTALS),
        ("UPDATE runs SET tokens_used = 1", TOTALS),
        ("UPDATE runs SET cost_used = 1e-9", TOTALS),
        ("UPDATE runs SET cost_used = 'dear'", TOTALS),
        ("UPDATE reports SET score = 'good'", SCORES),
        ("UPDATE reports SET score = 9e999", SCORES),
        ("UPDATE online_examples SET score = -2e18", SCORES),
        ("UPDATE online_examples SET example = replace(example, 'inputs', 'outputs')", EXAMPLES),
        ("UPDATE online_examples SET digest = 'x'", EXAMPLES),
        ("DELETE FROM texts", EXAMPLES),
        ("UPDATE texts SET value = value || '.'", "every shared text is there, as it was written"),
        ("DELETE FROM texts", "every shared text is there, as it was written"),
        (
            "UPDATE configurations SET value = replace(value, '\"one\"', '\"two\"')",
            "every configuration is as it was written",
        ),
    ],
    ids=lambda value: value if value.startswith(("UPDATE", "DELETE")) else "",
)
async def test_a_changed_value_is_found(store: Path, damage: str, found: str) -> None:
    with closing(sqlite3.connect(store)) as db, db:
        db.execute("PRAGMA ignore_check_constraints = ON")
        db.execute("DROP TRIGGER rollout_done")
        assert db.execute(damage).rowcount > 0
    assert found in await failed_checks(store)


async def test_the_largest_score_is_that_of_metrics() -> None:
    assert doctor.LARGEST_SCORE == scoring.LARGEST_SCORE


async def test_a_run_of_several_completions_repeats_and_cached_replies_passes_all_checks(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"student": dspy.Predict("question -> answer", n=2), "run_id": "run"}
    with OpenAIServer(legible_script, faults=Faults(rate_limited=0.2, server_error=0.1)) as server:
        lm, governor = server.lm(cache=True), Governor(retry=Retry(base=0.01, longest=0.1))
        for name in ("first.db", "again.db"):
            config = small_config(tmp_path / name, lm=lm, prompt_model=lm, governor=governor, **changes)
            await finish(config)
            await fork(tmp_path / name, "run", at=1, new_run_id="fork")
            assert await failed_checks(tmp_path / name) == []
