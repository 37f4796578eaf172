"""The size of a rollout in the store, compared to its trajectory as JSON.

    python -m tests.benchmarks.storage

Each example is run by many programs, so its inputs come again and again. A long text is stored once, by its digest.
Then the file of a whole run of the adaptive policy, with 600 calls on 100 examples of 1 KB, and what its tables take.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import sqlite3
import tempfile
from dataclasses import asdict
from pathlib import Path

import orjson

from simba_actors.search.rollout import Outcome, Rollout, RolloutKey, TraceStep, Trajectory, Usage
from simba_actors.store import Owner
from simba_actors.store.records import NewRun, OpenStep, RecordRollout
from simba_actors.store.store import Store

EXAMPLES, PROGRAMS = 20, 20
INPUTS = {"a question of 60 characters": 60, "a page of 4 KB": 4_000, "an image of 90 KB": 90_000}


def trajectory(example: int, program: int, length: int) -> Trajectory:
    inputs = {"question": f"{example} " + "x" * length}
    outputs = {"reasoning": f"Program {program} thinks about {example}. " * 4, "answer": str(example)}
    return Trajectory(Outcome.SCORED, 1.0, outputs, (TraceStep("self", inputs, outputs),), usage=Usage(1, 200, 20, 0.0))


async def bytes_per_rollout(path: Path, length: int) -> tuple[float, float]:
    """Return the bytes of the file, and of the trajectories as JSON, for each rollout."""
    store, owner = await Store.open(path), Owner.this_process()
    await store.claim(NewRun("run", {}, {}), owner)
    empty = file_size(path)
    plan = [
        Rollout(RolloutKey(0, "evaluate", program * EXAMPLES + example), program, example)
        for program in range(PROGRAMS)
        for example in range(EXAMPLES)
    ]
    done = [RecordRollout(r.key, trajectory(r.example, r.program, length)) for r in plan]
    await store.commit("run", owner, [OpenStep(0, {}, tuple(plan)), *done])
    await store.release("run", owner)
    await store.close()
    as_json = sum(len(orjson.dumps(asdict(record.trajectory))) for record in done)
    return (file_size(path) - empty) / len(plan), as_json / len(plan)


def whole_run(path: Path) -> tuple[float, dict[str, float]]:
    """Return the bytes of the file for each rollout, in all and by table with its indices."""
    asyncio.run(run_adaptive(path))
    with contextlib.closing(sqlite3.connect(path)) as store:
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [rollouts] = store.execute("SELECT count(*) FROM rollouts").fetchone()
        of_tables = store.execute(
            "SELECT tbl_name, sum(pgsize) FROM dbstat JOIN sqlite_schema USING (name) GROUP BY tbl_name ORDER BY 2 DESC"
        ).fetchall()
    return file_size(path) / rollouts, {table: taken / rollouts for table, taken in of_tables}


async def run_adaptive(path: Path) -> None:
    import dspy

    from simba_actors import Budget, Optimizer, OptimizerConfig
    from tests.support.quiz import exact, legible_script, questions
    from tests.support.scripted_lm import ScriptedLM

    config = OptimizerConfig(
        student=dspy.Predict("question -> answer"),
        metric=exact,
        trainset=[
            dspy.Example(question=f"{row.question} {'x' * 1_000}", answer=row.answer).with_inputs("question")
            for row in questions(100)
        ],
        store=path,
        lm=ScriptedLM(legible_script),
        budget=Budget(max_calls=600),
        stop_when=None,
    )
    async with await Optimizer.start(config) as optimizer:
        await optimizer.result()


def file_size(path: Path) -> int:
    return path.stat().st_size


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        for number, (name, length) in enumerate(INPUTS.items()):
            stored, as_json = asyncio.run(bytes_per_rollout(Path(directory) / f"{number}.db", length))
            print(f"{name}: {stored:,.0f} bytes a rollout in the store, {as_json:,.0f} as JSON")
        with contextlib.redirect_stderr(io.StringIO()):
            whole, by_table = whole_run(Path(directory) / "run.db")
        tables = ", ".join(f"{table} {taken:,.0f}" for table, taken in by_table.items() if taken >= 10)
        print(f"a whole run: {whole:,.0f} bytes a rollout ({tables})")


if __name__ == "__main__":
    main()
