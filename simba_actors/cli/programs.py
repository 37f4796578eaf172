"""Commands about the programs of a run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from simba_actors.cli.options import DEFAULT_STORE, AsJSON, ProgramNumber, RunId, StorePath
from simba_actors.cli.output import print_json, print_text, print_tree, run, score
from simba_actors.store.pool_queries import Lesson, PoolEntry, PoolQueries
from simba_actors.store.queries import Queries
from simba_actors.store.records import Program, RolloutRecord


def program(run_id: RunId, number: ProgramNumber, store: StorePath = DEFAULT_STORE, as_json: AsJSON = False) -> None:
    """Show a program: where it comes from, and its instructions and demos as a diff against its parent."""
    found, diff = run(_program_with_diff(store, run_id, number), as_json=as_json)
    if as_json:
        print_json({**asdict(found), "diff": diff})
        return
    print_text(_origin(found))
    print_text()
    print_text(diff or "The same as its parent.")


def lineage(run_id: RunId, store: StorePath = DEFAULT_STORE, as_json: AsJSON = False) -> None:
    """Show the pool as a tree: each program under its first parent, with its score."""
    pool = run(_pool(store, run_id), as_json=as_json)
    if as_json:
        print_json([{**asdict(entry), "score": entry.score} for entry in pool])
        return
    print_tree({entry.number: (entry.parents[0] if entry.parents else None, _label(entry)) for entry in pool})


def why(run_id: RunId, number: ProgramNumber, store: StorePath = DEFAULT_STORE, as_json: AsJSON = False) -> None:
    """Show what a program was made from: the better and the worse trajectory, and what was learned from them."""
    found, diff, lessons = run(_reasons(store, run_id, number), as_json=as_json)
    if as_json:
        print_json({**asdict(found), "diff": diff, "lessons": [asdict(lesson) for lesson in lessons]})
        return
    print_text(_origin(found))
    for lesson in lessons:
        print_text(f"\nStep {lesson.step + 1}, example {lesson.example}")
        for title, record in (("Better", lesson.better), ("Worse", lesson.worse)):
            print_text(f"\n{title}: {_trajectory_text(record)}")
    print_text(f"\nWhat came of it:\n{diff or 'nothing: it is the same as its parent'}")


def export(
    run_id: RunId,
    number: Annotated[
        list[int],
        typer.Argument(metavar="N", help="Its number; by default the best.", default_factory=list, show_default=False),
    ],
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A .json file to write.")],
    store: StorePath = DEFAULT_STORE,
    as_json: AsJSON = False,
) -> None:
    """Write a program to a JSON file that `student.load(file)` reads; settings of LMs, `programs.load` does."""
    if len(number) > 1:
        raise typer.BadParameter("one program goes into one file: RUN [N] FILE", param_hint="N")
    found = run(_best_or(number[0] if number else None, store, run_id), as_json=as_json)
    try:
        path.write_text(_state_file(found), encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{path} can't be written: {error.strerror}", param_hint="FILE") from None
    if as_json:
        print_json({"run_id": run_id, "program": found.number, "path": str(path)})
    else:
        print_text(f"program {found.number} of {run_id} is in {path}")


async def _pool(store: Path, run_id: str) -> list[PoolEntry]:
    async with await PoolQueries.open(store) as queries:
        await queries.run(run_id)
        return await queries.pool(run_id)


async def _program_with_diff(store: Path, run_id: str, number: int) -> tuple[Program, str]:
    async with await PoolQueries.open(store) as queries:
        found = await queries.program(run_id, number)
        return found, await _diff_to_parent(queries, run_id, found)


async def _reasons(store: Path, run_id: str, number: int) -> tuple[Program, str, list[Lesson]]:
    async with await PoolQueries.open(store) as queries:
        found = await queries.program(run_id, number)
        return found, await _diff_to_parent(queries, run_id, found), await queries.lessons(run_id, found)


async def _diff_to_parent(queries: PoolQueries, run_id: str, found: Program) -> str:
    from simba_actors.programs import Configuration  # DSPy, which it imports, takes seconds to import.

    configuration = Configuration.from_json(found.configuration)
    if not found.parents:
        return configuration.diff(Configuration({}))
    parent = await queries.program(run_id, found.parents[0])
    return configuration.diff(Configuration.from_json(parent.configuration))


async def _best_or(number: int | None, store: Path, run_id: str) -> Program:
    async with await Queries.open(store) as queries:
        if number is None:
            best = (await queries.summary(run_id)).best
            number = 0 if best is None else best[0]
        return await queries.program(run_id, number)


def _state_file(found: Program) -> str:
    from simba_actors.programs import Configuration
    from simba_actors.programs.state_file import module_state

    state = module_state(Configuration.from_json(found.configuration))
    return json.dumps(state, indent=2) + "\n"


def _label(entry: PoolEntry) -> str:
    worth = score(entry.score) or "not scored"
    finalist = " finalist" if entry.verdict is not None else ""
    others = f", also from {', '.join(map(str, entry.parents[1:]))}" if entry.parents[1:] else ""
    return f"{entry.number}  {worth}{finalist}  {entry.strategy}{others}"


def _origin(found: Program) -> str:
    if not found.parents:
        return f"Program {found.number}: the student itself"
    parents = " and ".join(map(str, found.parents))
    return f"Program {found.number}: made by {found.strategy} from program {parents} in step {found.step + 1}"


def _trajectory_text(record: RolloutRecord) -> str:
    trajectory = record.trajectory
    if trajectory is None:
        return "no result"
    lines = [f"score {float(trajectory.score):g}, by program {record.rollout.program}"]
    for call in trajectory.trace:
        lines.append(f"  {call.predictor}")
        lines.extend(f"    {name} ← {value}" for name, value in call.inputs.items())
        lines.extend(f"    {name} → {value}" for name, value in call.outputs.items())
    if trajectory.error is not None:
        lines.append(f"  failed: {trajectory.error}")
    lines.extend(f"  {name}: {value}" for name, value in trajectory.feedback.items())
    return "\n".join(lines)
