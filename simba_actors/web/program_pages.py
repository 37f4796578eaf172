"""Pages about programs, what they were made from, and what they got wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from simba_actors.programs import Configuration
from simba_actors.programs.configuration import Demo
from simba_actors.programs.messages import prompt_messages
from simba_actors.publishing import publications
from simba_actors.search.rollout import JSON, STUDENT, TraceStep
from simba_actors.store import Reader
from simba_actors.store.queries import pool_queries, rollout_queries, score_queries
from simba_actors.store.queries.rollout_queries import RolloutFilter
from simba_actors.store.records import Program, RolloutRecord
from simba_actors.web.diffs import diff_lines
from simba_actors.web.lineage_graph import legend, lineage_graph, shown_in_graph
from simba_actors.web.rendering import name_in, number_in, open_store, page, slug, whole

ROWS_A_PAGE = 100
"""Maximum number of programs in one table."""

CHILDREN_SHOWN = 50
"""Maximum number of programs that a program's page names as made from it."""

FAILURES_A_PAGE = 20
"""Maximum number of rollouts on one page of failures."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A rollout beside another program's on the same example."""

    record: RolloutRecord
    other: RolloutRecord | None
    differing: set[tuple[int, str]]
    """Outputs that are not the same, by the index of the call and the field's name."""
    messages: list[tuple[str, list[dict[str, str]]]]
    """Each predictor's name with the chat messages that it sent, if the page shows them."""


async def pool(request: Request) -> Response:
    """Show the lineage graph, and all programs in a table, best first or by number."""
    run_id = name_in(request, "run")
    by_number = request.query_params.get("order") == "number"
    first = whole(request.query_params.get("first")) or 0
    async with await open_store(request) as store:
        run_ = await store.run(run_id)
        ranking = await store.ask(pool_queries.ranking, run_id)
        parents = await store.ask(pool_queries.parents_of_all, run_id)
        graphed = shown_in_graph(ranking, parents)
        ordered = sorted(ranking) if by_number else ranking
        listed = ordered[first : first + ROWS_A_PAGE]
        entries = {entry.number: entry for entry in await store.ask(pool_queries.pool, run_id, graphed | set(listed))}
        best = await store.ask(score_queries.best_standing, run_id)
        validated = await store.ask(score_queries.validated, run_id)
    winner = best.program if best is not None and run_.result is not None else None

    def link(number: int) -> str:
        return request.url_for("program", run=slug(run_id), number=number).path

    nodes = [entries[number] for number in sorted(graphed)]
    return page(
        request,
        "pool.html",
        run_id=run_id,
        count=len(ranking),
        graphed=len(graphed),
        graph=lineage_graph(nodes, link, winner),
        legend=legend(nodes),
        winner=winner,
        validated=validated,
        rows=[entries[number] for number in listed],
        first=first,
        rows_a_page=ROWS_A_PAGE,
        by_number=by_number,
    )


async def program(request: Request) -> Response:
    """Show a program: its prompt, what it changed, where it comes from, and how it did on each example."""
    run_id, number = name_in(request, "run"), number_in(request, "number")
    async with await open_store(request) as store:
        found = await store.ask(pool_queries.program, run_id, number)
        configuration = Configuration.from_json(found.configuration)
        best = await store.ask(score_queries.best_standing, run_id)
        prompts = (await store.run(run_id)).prompts
        return page(
            request,
            "program.html",
            run_id=run_id,
            program=found,
            entry=(await store.ask(pool_queries.pool, run_id, [number]))[0],
            standing=await store.ask(score_queries.standing, run_id, number),
            is_best=best is not None and best.program == number,
            predictors=_prompts(configuration),
            messages=await _messages(store, run_id, found, configuration, prompts),
            typed=prompts,
            settings=configuration.settings,
            diff_to_parent=await _diff(store, run_id, configuration, found.parents[0]) if found.parents else [],
            diff_to_student=await _diff(store, run_id, configuration, STUDENT) if found.parents else [],
            lessons=await store.ask(pool_queries.lessons, run_id, found),
            children=await store.ask(pool_queries.children, run_id, number),
            children_shown=CHILDREN_SHOWN,
            examples=await store.ask(pool_queries.example_scores, run_id, number),
            examples_shown=pool_queries.EXAMPLES_SHOWN,
            channels=[(name, served.version) for name, served in await store.ask(publications.served_by_channel)],
        )


async def failures(request: Request) -> Response:
    """Show a program's failures, worst first, beside the student's or the parent's run on the same example."""
    run_id, number = name_in(request, "run"), number_in(request, "number")
    query = request.query_params
    first = whole(query.get("first")) or 0
    at_most = _decimal(query.get("at_most"))
    kind, prompts = query.get("kind", "wrong"), "prompts" in query
    wanted = RolloutFilter(
        failed=kind == "failed", at_most=at_most, text=query.get("text") or None, limit=FAILURES_A_PAGE + 1, skip=first
    )
    async with await open_store(request) as store:
        found = await store.ask(pool_queries.program, run_id, number)
        beside = STUDENT if query.get("beside") != "parent" or not found.parents else found.parents[0]
        if kind == "wrong":
            wanted = replace(wanted, below=await store.ask(rollout_queries.best_score, run_id))
        records = await store.ask(rollout_queries.rollouts_of, run_id, number, wanted)
        templates = (await store.run(run_id)).prompts if prompts else None
        configuration = Configuration.from_json(found.configuration)
        shown = records[:FAILURES_A_PAGE]
        others: list[RolloutRecord | None] = [None] * len(shown)
        if beside != number:
            others = await store.ask(rollout_queries.counterparts, run_id, [each.rollout for each in shown], beside)
    return page(
        request,
        "failures.html",
        run_id=run_id,
        program=found,
        beside=beside,
        beside_parent=query.get("beside") == "parent",
        kind=kind,
        prompts=prompts,
        at_most="" if at_most is None else f"{at_most:g}",
        text=query.get("text") or "",
        comparisons=[_comparison(*pair, configuration, templates) for pair in zip(shown, others, strict=True)],
        first=first,
        more=len(records) > FAILURES_A_PAGE,
        a_page=FAILURES_A_PAGE,
    )


async def bucket(request: Request) -> Response:
    """Show one example's trajectories in a step, best first, and the programs that were made from them."""
    run_id = name_in(request, "run")
    step, example = number_in(request, "step"), number_in(request, "example")
    async with await open_store(request) as store:
        await store.run(run_id)
        records = await store.ask(pool_queries.bucket, run_id, step, example)
        made = [
            (program, reason, await _change(store, run_id, program))
            for program, reason in await store.ask(pool_queries.proposals_from, run_id, step, example)
        ]
    return page(
        request,
        "bucket.html" if records else "error.html",
        200 if records else 404,
        run_id=run_id,
        step=step,
        example=example,
        records=records,
        differing=_differing(records[0], records[-1]) if records else set(),
        made=made,
        title="Not found",
        message=f"Run {run_id!r} has no trajectories of example {example} in step {step + 1}.",
    )


def _prompts(configuration: Configuration) -> list[tuple[str, str, tuple[Demo, ...]]]:
    names = configuration.predictors
    return [(name, configuration.instructions(name), configuration.demos(name)) for name in names]


async def _messages(
    store: Reader, run_id: str, found: Program, configuration: Configuration, prompts: Mapping[str, JSON]
) -> list[tuple[str, list[dict[str, str]]]]:
    """Return the chat messages of each predictor that has a stored call to take the fields from."""
    calls = await store.ask(rollout_queries.stored_calls, run_id, (found.number, *found.parents, STUDENT))
    known = [calls[name] for name in configuration.predictors if name in calls]
    return [_prompt_of(call, configuration, prompts) for call in known]


def _comparison(
    record: RolloutRecord,
    other: RolloutRecord | None,
    configuration: Configuration,
    templates: Mapping[str, JSON] | None,
) -> Comparison:
    """Compare two rollouts, with the prompts of the first one if there are templates to write them by."""
    differing = _differing(record, other) if other is not None else set[tuple[int, str]]()
    messages = _prompts_of(record, configuration, templates) if templates is not None else []
    return Comparison(record, other, differing, messages)


def _prompts_of(
    record: RolloutRecord, configuration: Configuration, prompts: Mapping[str, JSON]
) -> list[tuple[str, list[dict[str, str]]]]:
    """Return the chat messages of each call of a rollout, but for those of predictors that are not optimized."""
    trace = record.trajectory.trace if record.trajectory is not None else ()
    return [_prompt_of(call, configuration, prompts) for call in trace if call.predictor in configuration.predictors]


def _prompt_of(
    call: TraceStep, configuration: Configuration, prompts: Mapping[str, JSON]
) -> tuple[str, list[dict[str, str]]]:
    """Return the name of the call's predictor, and the chat messages that it sent."""
    name = call.predictor
    return name, prompt_messages(configuration, name, call.inputs, call.outputs, prompts.get(name))


async def _change(store: Reader, run_id: str, number: int | None) -> list[tuple[str, str]]:
    if number is None:
        return []
    made = await store.ask(pool_queries.program, run_id, number)
    return await _diff(store, run_id, Configuration.from_json(made.configuration), made.parents[0])


async def _diff(store: Reader, run_id: str, configuration: Configuration, other: int) -> list[tuple[str, str]]:
    parent = await store.ask(pool_queries.program, run_id, other)
    return diff_lines(configuration, Configuration.from_json(parent.configuration))


def _differing(record: Any, other: Any) -> set[tuple[int, str]]:
    """Return the outputs that differ between two records, by index of the call and field."""
    traces = record.trajectory.trace, other.trajectory.trace
    fields = {(index, name) for trace in traces for index, call in enumerate(trace) for name in call.outputs}
    return {
        (index, name) for index, name in fields if _output(traces[0], index, name) != _output(traces[1], index, name)
    }


def _output(trace: Any, index: int, name: str) -> Any:
    return trace[index].outputs.get(name) if index < len(trace) else None


def _decimal(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
