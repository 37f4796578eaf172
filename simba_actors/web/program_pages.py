"""Pages about programs and what they were made from."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from simba_actors.programs import Configuration
from simba_actors.programs.configuration import Demo
from simba_actors.publishing.channel_queries import Channels
from simba_actors.store.queries import Queries
from simba_actors.store.records import Program
from simba_actors.web.lineage_graph import legend, lineage_graph, shown_in_graph
from simba_actors.web.rendering import name_in, number_in, open_store, page, site, slug, whole

ROWS_A_PAGE = 100

STUDENT = 0


async def pool(request: Request) -> Response:
    """The lineage graph, and all programs in a table, the best first or by number."""
    run_id = name_in(request, "run")
    by_number = request.query_params.get("order") == "number"
    first = whole(request.query_params.get("first")) or 0
    async with await open_store(request) as store:
        await store.run(run_id)
        ranking, parents = await store.ranking(run_id), await store.parents(run_id)
        graphed = shown_in_graph(ranking, parents)
        ordered = sorted(ranking) if by_number else ranking
        listed = ordered[first : first + ROWS_A_PAGE]
        entries = {entry.number: entry for entry in await store.pool(run_id, graphed | set(listed))}

    def link(number: int) -> str:
        return request.url_for("program", run=slug(run_id), number=number).path

    nodes = [entries[number] for number in sorted(graphed)]
    return page(
        request,
        "pool.html",
        run_id=run_id,
        count=len(ranking),
        graphed=len(graphed),
        graph=lineage_graph(nodes, link),
        legend=legend(nodes),
        rows=[entries[number] for number in listed],
        first=first,
        rows_a_page=ROWS_A_PAGE,
        by_number=by_number,
    )


async def program(request: Request) -> Response:
    """A program: its prompt, what it changed, where it comes from, and how it did example by example."""
    run_id, number = name_in(request, "run"), number_in(request, "number")
    async with await open_store(request) as store, await Channels.open(site(request).store) as channels:
        found = await store.program(run_id, number)
        configuration = Configuration.from_json(found.configuration)
        return page(
            request,
            "program.html",
            run_id=run_id,
            program=found,
            entry=(await store.pool(run_id, [number]))[0],
            predictors=_prompts(configuration),
            settings=configuration.settings,
            diff_to_parent=await _diff(store, run_id, configuration, found.parents[0]) if found.parents else [],
            diff_to_student=await _diff(store, run_id, configuration, STUDENT) if found.parents else [],
            lessons=await store.lessons(run_id, found),
            children=await store.children(run_id, number),
            examples=await store.example_scores(run_id, number),
            channels=[(name, (await channels.served(name)).version) for name in await channels.names()],
        )


async def bucket(request: Request) -> Response:
    """One example's trajectories in a step, best first, and the programs that were made from them."""
    run_id = name_in(request, "run")
    step, example = number_in(request, "step"), number_in(request, "example")
    async with await open_store(request) as store:
        await store.run(run_id)
        records = await store.bucket(run_id, step, example)
        made = [
            (program, reason, await _change(store, run_id, program))
            for program, reason in await store.proposals_from(run_id, step, example)
        ]
    return page(
        request,
        "bucket.html" if records else "error.html",
        200 if records else 404,
        run_id=run_id,
        step=step,
        example=example,
        records=records,
        differing=_differing(records) if records else set(),
        made=made,
        title="Not found",
        message=f"Run {run_id!r} has no trajectories of example {example} in step {step + 1}.",
    )


def _prompts(configuration: Configuration) -> list[tuple[str, str, tuple[Demo, ...]]]:
    names = configuration.predictors
    return [(name, configuration.instructions(name), configuration.demos(name)) for name in names]


async def _change(store: Queries, run_id: str, number: int | None) -> list[tuple[str, str]]:
    if number is None:
        return []
    made: Program = await store.program(run_id, number)
    return await _diff(store, run_id, Configuration.from_json(made.configuration), made.parents[0])


async def _diff(store: Queries, run_id: str, configuration: Configuration, other: int) -> list[tuple[str, str]]:
    """Lines with their kind: "added", "removed", "place" or "same"."""
    parent = await store.program(run_id, other)
    text = configuration.diff(Configuration.from_json(parent.configuration))
    return [(_kind_of(line), line) for line in text.splitlines()]


def _kind_of(line: str) -> str:
    if line.startswith(("---", "+++", "@@")):
        return "place"
    return {"+": "added", "-": "removed"}.get(line[:1], "same")


def _differing(records: list[Any]) -> set[tuple[int, str]]:
    """Which outputs, by place of the call and field, are not the same in the best and the worst trajectory."""
    best, worst = records[0].trajectory.trace, records[-1].trajectory.trace
    fields = {(place, name) for trace in (best, worst) for place, call in enumerate(trace) for name in call.outputs}
    return {(place, name) for place, name in fields if _output(best, place, name) != _output(worst, place, name)}


def _output(trace: Any, place: int, name: str) -> Any:
    return trace[place].outputs.get(name) if place < len(trace) else None
