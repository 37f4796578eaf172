"""Commands about the programs of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from simba_actors.cli.arguments import (
    DEFAULT_STORE,
    AsJSON,
    RunAndProgram,
    RunName,
    StorePath,
    check_words,
    checked_number,
    is_program,
    run_and_program,
)
from simba_actors.cli.output import print_json, print_text, print_tree, run, score
from simba_actors.errors import RunError
from simba_actors.search.rollout import JSON, STUDENT, TraceStep
from simba_actors.store import Reader
from simba_actors.store.queries import lookup, pool_queries, rollout_queries, score_queries
from simba_actors.store.queries.pool_queries import Lesson, PoolEntry
from simba_actors.store.queries.rollout_queries import RolloutFilter
from simba_actors.store.records import UNOPTIMIZED, Program, RolloutRecord

if TYPE_CHECKING:
    from simba_actors.programs import Configuration

LONGEST_VALUE = 2_000
"""Maximum number of characters of one value of a trajectory that a command prints."""


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message of a predictor's prompt."""

    predictor: str
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A rollout of a program, and the student's on the same example."""

    rollout: RolloutRecord
    student: RolloutRecord | None


def program(
    words: RunAndProgram = None,
    full: Annotated[bool, typer.Option("--full", help="Print the prompt as an LM gets it.")] = False,
    store: StorePath = DEFAULT_STORE,
    as_json: AsJSON = False,
) -> None:
    """Show a program: where it comes from, and its instructions and demos as a diff against its parent."""
    run_name, name = run_and_program(words)
    if full:
        found, messages = run(_program_with_messages(store, run_name, name), as_json=as_json)
        if as_json:
            print_json({**asdict(found), "messages": [asdict(message) for message in messages]})
            return
        print_text(_origin(found))
        for message in messages:
            print_text(f"\n── {message.predictor}: {message.role} ──\n{message.content}")
        return
    found, diff = run(_program_with_diff(store, run_name, name), as_json=as_json)
    if as_json:
        print_json({**asdict(found), "diff": diff})
        return
    print_text(_origin(found))
    print_text()
    print_text(diff or "The same as its parent.")


def lineage(run_name: RunName = None, store: StorePath = DEFAULT_STORE, as_json: AsJSON = False) -> None:
    """Show the pool as a tree: each program under its first parent, with its score."""
    pool = run(_pool(store, run_name), as_json=as_json)
    if as_json:
        print_json([{**asdict(entry), "score": entry.score} for entry in pool])
        return
    print_tree({entry.number: (entry.parents[0] if entry.parents else None, _label(entry)) for entry in pool})


def why(words: RunAndProgram = None, store: StorePath = DEFAULT_STORE, as_json: AsJSON = False) -> None:
    """Show what a program was made from: the better and the worse trajectory, and what was learned from them."""
    found, diff, lessons = run(_reasons(store, *run_and_program(words)), as_json=as_json)
    if as_json:
        print_json({**asdict(found), "diff": diff, "lessons": [asdict(lesson) for lesson in lessons]})
        return
    print_text(_origin(found))
    for lesson in lessons:
        print_text(f"\nStep {lesson.step + 1}, example {lesson.example}")
        for title, record in _compared(lesson):
            print_text(f"\n{title}: {_trajectory_text(record)}")
    print_text(f"\nChanges:\n{diff or 'none: it is the same as its parent'}")


def failures(
    words: RunAndProgram = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only rollouts that raised an error.")] = False,
    at_most: Annotated[
        float | None, typer.Option("--at-most", help="Only scores of at most this.", show_default=False)
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text", help="Only rollouts whose inputs, outputs, feedback or error contain this.", show_default=False
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="Maximum number.", min=1, callback=checked_number)] = 10,
    all_: Annotated[bool, typer.Option("--all", help="Also rollouts with the best score.")] = False,
    store: StorePath = DEFAULT_STORE,
    as_json: AsJSON = False,
) -> None:
    """Show what a program got wrong, worst first, beside the student's run on the same example."""
    run_name, name = run_and_program(words)
    if text is not None:
        check_words([text])
    wanted = RolloutFilter(failed=failed, at_most=at_most, text=text, limit=limit)
    run_id, number, found = run(_failures(store, run_name, name, wanted, everything=all_), as_json=as_json)
    if as_json:
        print_json({"run_id": run_id, "program": number, "rollouts": [asdict(failure) for failure in found]})
        return
    print_text(f"program {number} of {run_id}: {_counted(found, limit)}")
    for failure in found:
        rollout = failure.rollout.rollout
        step = f"step {rollout.key.step + 1}" if rollout.key.step >= 0 else "finals"
        print_text(f"\n── {rollout.split}set[{rollout.example}], {step} ──")
        print_text(f"Program {number}: {_trajectory_text(failure.rollout, named=False)}")
        if failure.student is not None:
            print_text(f"Student: {_trajectory_text(failure.student, named=False, inputs=False)}")


def export(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN] [N] FILE", help="The run and program, as for `program`, and the .json file to write."
        ),
    ],
    messages: Annotated[
        bool,
        typer.Option(
            "--messages",
            help="Write the prompt as plain chat messages, for use without DSPy. Replace each {{input}} in the last "
            "message by its value: text as it is, other values as JSON.",
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    store: StorePath = DEFAULT_STORE,
    as_json: AsJSON = False,
) -> None:
    """Write a program to a file: a state that DSPy loads with student.load(FILE), or plain chat messages.

    By default the winner of a finished run.
    """
    *source, last = check_words(words)
    path = Path(last)
    if path.suffix != ".json" or is_program(last):
        raise typer.BadParameter(f"{last!r} must be a file whose name ends in .json", param_hint="FILE")
    if len(source) > 1 and all(is_program(word) for word in source[-2:]):
        raise typer.BadParameter("only one program fits in a file: [RUN] [N] FILE", param_hint="N")
    run_name, name = run_and_program(source)
    run_id, found, content = run(_export(store, run_name, name, messages=messages), as_json=as_json)
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(json.dumps(content, indent=2, ensure_ascii=not messages) + "\n")
    except FileExistsError:
        raise typer.BadParameter(f"{path} exists: give another file, or --force", param_hint="FILE") from None
    except OSError as error:
        raise typer.BadParameter(f"{path} can't be written: {error.strerror}", param_hint="FILE") from None
    if as_json:
        print_json({"run_id": run_id, "program": found.number, "path": str(path)})
    else:
        print_text(f"program {found.number} of {run_id} is in {path}")


async def _pool(store: Path, run_name: str | None) -> list[PoolEntry]:
    async with await Reader.open(store) as queries:
        return await queries.ask(pool_queries.pool, await queries.ask(lookup.find_run_id, run_name))


async def _find(queries: Reader, run_name: str | None, name: str | None) -> tuple[str, Program]:
    run_id = await queries.ask(lookup.find_run_id, run_name)
    number = await queries.ask(lookup.find_program, run_id, name)
    return run_id, await queries.ask(pool_queries.program, run_id, number)


async def _program_with_diff(store: Path, run_name: str | None, name: str | None) -> tuple[Program, str]:
    async with await Reader.open(store) as queries:
        run_id, found = await _find(queries, run_name, name)
        return found, await _diff_to_parent(queries, run_id, found)


async def _program_with_messages(
    store: Path, run_name: str | None, name: str | None
) -> tuple[Program, Sequence[Message]]:
    from simba_actors.programs import Configuration

    async with await Reader.open(store) as queries:
        run_id, found = await _find(queries, run_name, name)
        prompts = (await queries.run(run_id)).prompts
        calls = await queries.ask(rollout_queries.stored_calls, run_id, (found.number, *found.parents, STUDENT))
    return found, list(_messages(Configuration.from_json(found.configuration), prompts, calls))


def _messages(
    configuration: Configuration, prompts: Mapping[str, JSON], calls: Mapping[str, TraceStep]
) -> Iterable[Message]:
    """Return the messages of each predictor, with the inputs of a stored call."""
    from simba_actors.programs.messages import prompt_messages

    for predictor in configuration.predictors:
        call = calls.get(predictor)
        if call is None:
            yield Message(predictor, "system", configuration.instructions(predictor))
            continue
        template = prompts.get(predictor)
        for message in prompt_messages(configuration, predictor, call.inputs, call.outputs, template):
            yield Message(predictor, message["role"], message["content"])


async def _reasons(store: Path, run_name: str | None, name: str | None) -> tuple[Program, str, list[Lesson]]:
    async with await Reader.open(store) as queries:
        run_id, found = await _find(queries, run_name, name)
        return (
            found,
            await _diff_to_parent(queries, run_id, found),
            await queries.ask(pool_queries.lessons, run_id, found),
        )


async def _failures(
    store: Path, run_name: str | None, name: str | None, wanted: RolloutFilter, *, everything: bool
) -> tuple[str, int, list[Failure]]:
    async with await Reader.open(store) as queries:
        run_id = await queries.ask(lookup.find_run_id, run_name)
        number = await queries.ask(lookup.find_program, run_id, name)
        if not everything and not wanted.failed:
            wanted = replace(wanted, below=await queries.ask(rollout_queries.best_score, run_id))
        records = await queries.ask(rollout_queries.rollouts_of, run_id, number, wanted)
        students: list[RolloutRecord | None] = [None] * len(records)
        if number != STUDENT:
            rollouts = [record.rollout for record in records]
            students = await queries.ask(rollout_queries.counterparts, run_id, rollouts, STUDENT)
        return run_id, number, [Failure(record, student) for record, student in zip(records, students, strict=True)]


async def _program_to_export(store: Path, run_name: str | None, name: str | None) -> tuple[str, Program, JSON]:
    """Return the run, the program and the configuration of the student's predictors that are not optimized."""
    async with await Reader.open(store) as queries:
        run_id = await queries.ask(lookup.find_run_id, run_name)
        run_ = await queries.run(run_id)
        if name in (None, "best") and run_.result is None:
            best = await queries.ask(score_queries.best_standing, run_id)
            leading = "" if best is None else f" (program {best.program} leads with {best})"
            raise RunError(
                f"run {run_id!r} is {run_.status} and has no winner yet{leading}: name the program to export"
            )
        _, found = await _find(queries, run_id, name)
        student = await queries.ask(pool_queries.program, run_id, STUDENT)
        return run_id, found, cast("dict[str, JSON]", student.provenance or {}).get(UNOPTIMIZED)


async def _export(
    store: Path, run_name: str | None, name: str | None, *, messages: bool
) -> tuple[str, Program, Mapping[str, Any]]:
    """Return the run, the program, and the content of its file."""
    run_id, found, unoptimized = await _program_to_export(store, run_name, name)
    if not messages:
        return run_id, found, _state(found, unoptimized)
    async with await Reader.open(store) as queries:
        return run_id, found, _plain_messages(found, (await queries.run(run_id)).prompts)


async def _diff_to_parent(queries: Reader, run_id: str, found: Program) -> str:
    from simba_actors.programs import Configuration  # It imports DSPy, which takes a second.

    configuration = Configuration.from_json(found.configuration)
    if not found.parents:
        return configuration.diff(Configuration({}))
    parent = await queries.ask(pool_queries.program, run_id, found.parents[0])
    return configuration.diff(Configuration.from_json(parent.configuration))


def _state(found: Program, unoptimized: JSON) -> Mapping[str, Any]:
    from simba_actors.programs import Configuration
    from simba_actors.programs.state_file import module_state

    values: JSON = {**cast("dict[str, JSON]", found.configuration), **cast("dict[str, JSON]", unoptimized or {})}
    return module_state(Configuration.from_json(values))


def _plain_messages(found: Program, prompts: Mapping[str, JSON]) -> Mapping[str, Any]:
    """Return the messages of each predictor, with its inputs as placeholders, and its LM settings."""
    from simba_actors.programs import Configuration
    from simba_actors.programs.messages import PromptTemplate

    configuration = Configuration.from_json(found.configuration)
    exported: dict[str, Any] = {}
    for predictor in configuration.predictors:
        if predictor not in prompts:
            raise RunError(
                f"the prompt of {predictor} can't be written without the student's code: it was started by an earlier "
                "version, or has a custom adapter. Export it without --messages, and load it with student.load"
            )
        template = PromptTemplate.from_json(prompts[predictor])
        exported[predictor] = {
            "messages": template.with_placeholders(configuration, predictor),
            "inputs": list(template.inputs),
            "outputs": list(template.outputs),
        }
    return exported


def _label(entry: PoolEntry) -> str:
    worth = score(entry.score) or "not scored"
    finalist = "" if entry.rank is None else " winner" if entry.rank == 1 else " finalist"
    others = f", also from {', '.join(map(str, entry.parents[1:]))}" if entry.parents[1:] else ""
    return f"{entry.number}  {worth}{finalist}  {entry.strategy}{others}"


def _compared(lesson: Lesson) -> Sequence[tuple[str, RolloutRecord]]:
    """Return the two runs of a lesson with their titles, or one of them if both have the same score."""
    better, worse = lesson.better.trajectory, lesson.worse.trajectory
    if better is None or worse is None or better.score == worse.score:
        return [("Run", lesson.better)]
    return [("Better", lesson.better), ("Worse", lesson.worse)]


def _counted(found: Sequence[Failure], limit: int) -> str:
    match len(found):
        case 0:
            return "no such rollouts"
        case 1:
            return "1 rollout" if limit > 1 else "the worst rollout; --limit shows more"
        case count:
            return f"{count} rollouts" if count < limit else f"the {count} worst rollouts; --limit shows more"


def _origin(found: Program) -> str:
    if not found.parents:
        return f"Program {found.number}: the student itself"
    *others, last = map(str, found.parents)
    parents = f"programs {', '.join(others)} and {last}" if others else f"program {last}"
    return f"Program {found.number}: made by {found.strategy} from {parents} in step {found.step + 1}"


def _trajectory_text(record: RolloutRecord, *, named: bool = True, inputs: bool = True) -> str:
    """Return a trajectory as text, with the program's number if `named` and the calls' inputs if `inputs`."""
    trajectory = record.trajectory
    if trajectory is None:
        return "no result"
    lines = [f"score {float(trajectory.score):g}" + (f", by program {record.rollout.program}" if named else "")]
    for call in trajectory.trace:
        lines.append(f"  {call.predictor}")
        if inputs:
            lines.extend(f"    {name} ← {_short(value)}" for name, value in call.inputs.items())
        lines.extend(f"    {name} → {_short(value)}" for name, value in call.outputs.items())
    if inputs:
        lines.extend(f"  expected {name}: {_short(value)}" for name, value in trajectory.expected.items())
    if trajectory.error is not None:
        lines.append(f"  failed: {_short(trajectory.error)}")
    lines.extend(f"  {name}: {_short(value)}" for name, value in trajectory.feedback.items())
    return "\n".join(lines)


def _short(value: object) -> str:
    text = str(value)
    rest = len(text) - LONGEST_VALUE
    return text if rest <= 0 else f"{text[:LONGEST_VALUE]}… ({rest:,} more characters)"
