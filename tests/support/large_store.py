"""Stores with a large run, filled by SQL in seconds."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from simba_actors.store.queries.usage_queries import ROLLOUT_SUMS
from simba_actors.store.store import Store

RUN = "large"
STATE_OF_A_PLAN = "x" * 10_000
"""As much as the changes of the policy's state take in the plan of a step of a real run."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a run."""

    steps: int
    candidates: int = 6
    """New programs in each step."""
    rows: int = 6
    """Examples of a step, on which each new program runs once."""
    copies: int = 2
    """Trajectories sampled of each example of a step."""
    examples: int = 500

    @property
    def programs(self) -> int:
        return 1 + self.steps * self.candidates


async def store_large_run(path: Path, shape: Shape) -> int:
    """Store an unfinished run of that size, with an event for each sampled rollout. Return the number of rollouts."""
    await (await Store.open(path)).close()
    draws = random.Random(0)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("BEGIN")
        db.execute("DROP TRIGGER rollout_planned")
        db.execute(
            "INSERT INTO runs (run_id, status, fingerprint, settings, created, updated) "
            "VALUES (?, 'running', '{}', ?, 0, 1000)",
            [RUN, json.dumps({"max_steps": shape.steps, "policy": "adaptive"})],
        )
        db.executemany("INSERT INTO configurations VALUES (?, ?)", _configurations(shape))
        db.executemany("INSERT INTO programs VALUES (?, ?, ?, ?, ?, ?, ?, NULL)", _programs(shape, draws))
        db.executemany(
            "INSERT INTO steps (run_id, step, plan, result, progress) VALUES (?, ?, ?, ?, ?)", _steps(shape, draws)
        )
        db.executemany(
            "INSERT INTO rollouts VALUES (?, ?, ?, ?, ?, 'train', ?, '[\"student\",null,null]', 'scored', ?, 0.3, "
            "1, 200, 20, 0.0001, ?, NULL)",
            _rollouts(shape, draws),
        )
        db.execute(
            f"INSERT INTO tallies SELECT run_id, step, phase, program, 'student', COUNT(*), {ROLLOUT_SUMS} "  # noqa: S608
            "FROM rollouts GROUP BY run_id, step, phase, program"
        )
        db.execute(
            "INSERT INTO events SELECT run_id, ROW_NUMBER() OVER (), 0, 'StepOpened', json_object('step', step, "
            "'examples', json_array()), NULL FROM rollouts WHERE phase = 'sample'"
        )
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return int(db.execute("SELECT COUNT(*) FROM rollouts").fetchone()[0])


def _configurations(shape: Shape) -> Iterator[tuple[str, str]]:
    for number in range(shape.programs):
        rule = f"Rule {number}: look twice at what was asked before you answer. " * 10
        yield str(number), json.dumps({"self.instructions": rule, "self.demos": [{"question": "?", "answer": "!"}]})


def _programs(shape: Shape, draws: random.Random) -> Iterator[tuple[object, ...]]:
    yield RUN, 0, "0", "[]", "student", -1, "null"
    for number in range(1, shape.programs):
        step = (number - 1) // shape.candidates
        parent = draws.randrange(max(0, number - 40 * shape.candidates), number) if step else 0
        provenance = json.dumps({"examples": [step % shape.examples], "rollouts": [[0, 1]], "dropped_demos": []})
        strategy = draws.choice(["append_a_rule", "append_a_demo"])
        parents = json.dumps([min(parent, step * shape.candidates)])
        yield RUN, number, str(number), parents, strategy, step, provenance


def _steps(shape: Shape, draws: random.Random) -> Iterator[tuple[object, ...]]:
    rollouts = shape.rows * (shape.copies + shape.candidates)
    for step in range(shape.steps):
        first = 1 + step * shape.candidates
        made = range(first, first + shape.candidates)
        changes = {"set": {"/draws": STATE_OF_A_PLAN}, "remove": []}
        plan = {"changes": changes, "since": step - 1} if step else {"state": {"draws": STATE_OF_A_PLAN}}
        result = {
            "scores": [[program, draws.random()] for program in made],
            "winner": first,
            "best": [first, 0.8, 0.7, 0.9],
            "adaptations": [],
            "outlook": [0.01, 0.02, rollouts * (step + 1), rollouts],
            "changes": {"set": {"/steps_closed": step + 1}, "remove": []},
        }
        calls = rollouts * (step + 1)
        progress = {
            "sampled": draws.random(),
            "bucket_floors": [float(draws.random() < 0.5) for _ in range(shape.rows)],
            "usage": [calls, 200 * calls, 20 * calls, 0.0001 * calls],
            "seconds": 0.5 * (step + 1),
        }
        yield RUN, step, json.dumps(plan), json.dumps(result), json.dumps(progress)


def _rollouts(shape: Shape, draws: random.Random) -> Iterator[tuple[object, ...]]:
    words = "x" * 120
    for step in range(shape.steps):
        batch = [(step + place) % shape.examples for place in range(shape.rows)]
        first = 1 + step * shape.candidates
        top = [0, *(draws.randrange(first) for _ in range(shape.copies))]  # A step samples with the best programs only.
        plans = [("sample", draws.choice(top), example) for _ in range(shape.copies) for example in batch]
        made = range(first, first + shape.candidates)
        plans += [("evaluate", program, example) for program in made for example in batch]
        for position, (phase, program, example) in enumerate(plans):
            score = float(draws.random() < 0.5)
            call = ["self", {"question": words}, {"answer": words}]
            left = {"score": score, "prediction": {}, "trace": [call], "feedback": {}, "error": None}
            yield RUN, step, phase, position, program, example, score, json.dumps(left)
