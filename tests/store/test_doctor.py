"""The doctor finds damage that SQLite does not notice."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from simba_actors.events import RunFinished, RunPaused
from simba_actors.programs import Configuration
from simba_actors.publishing.channel import Channel
from simba_actors.store import Owner
from simba_actors.store.doctor import check
from simba_actors.store.records import AddProgram, CloseStep, Program, RecordProposal, SetStatus
from tests.store.ledgers import claimed, results, step

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
            CloseStep(0, {"winner": None}, [1, 2]),
            SetStatus("finished", "all of its steps are done", {"cap": None, "ranking": [[0, 0.5]]}),
        ],
        [RunPaused(reason="tea"), RunFinished(program=0, score=0.5)],
    )
    await writer.close()
    async with await Channel.open(path, "bot") as channel:
        await channel.publish(CONFIGURATION, expected=0, reason="first")
    return path


async def failed_checks(path: Path) -> list[str]:
    return [finding.what for finding in await check(path) if not finding.ok]


async def test_a_store_in_order_passes_all_checks(store: Path) -> None:
    assert await failed_checks(store) == []


ROW = "every row is as it was written"
WINNER = "every run's winner is that of its last event about it"


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
