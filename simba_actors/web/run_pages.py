"""Pages about runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from simba_actors.observe.wording import described
from simba_actors.programs import Configuration
from simba_actors.publishing.publications import served_by_channel
from simba_actors.search.objectives import pareto_front
from simba_actors.search.rollout import STUDENT
from simba_actors.store import Reader
from simba_actors.store.queries import pool_queries, rollout_queries, run_queries, score_queries
from simba_actors.store.queries.run_queries import RunSummary
from simba_actors.store.queries.score_queries import Standing, StepSpending
from simba_actors.web.charts import (
    MOST_POINTS,
    chart_by_spending,
    chart_by_step,
    chart_of_objectives,
    chart_of_standings,
)
from simba_actors.web.diffs import diff_lines
from simba_actors.web.rendering import name_in, open_store, page, slug, whole

EVENTS_SHOWN = 40
"""Maximum number of events on a run's page: the newest."""

STEPS_LISTED = 50
"""Maximum number of steps in the table: the newest."""

ERRORS_SHOWN = 5
"""Maximum number of different errors on a run's page."""


async def runs(request: Request) -> Response:
    """Show all runs, newest first, and all channels."""
    return page(request, "runs.html", **await _runs(request))


async def runs_live(request: Request) -> Response:
    """Show the part of the list of runs that is replaced as runs change."""
    return page(request, "runs_live.html", **await _runs(request))


async def run(request: Request) -> Response:
    """Show one run. Its live part is replaced as events arrive."""
    async with await open_store(request) as store:
        return page(request, "run.html", **await _facts(request, store))


async def live(request: Request) -> Response:
    """Show the live part of a run's page."""
    async with await open_store(request) as store:
        return page(request, "run_live.html", **await _facts(request, store))


async def compare(request: Request) -> Response:
    """Show two runs side by side, by default the newest two: scores with intervals, cost, and differing settings."""
    async with await open_store(request) as store:
        summaries = await store.ask(run_queries.summaries)
        names = [summary.run.run_id for summary in summaries]
        newest, older = (*names, "", "")[:2]
        chosen = [request.query_params.get(side, default) for side, default in (("a", older), ("b", newest))]
        sides = [await _side(store, name) for name in chosen if name in names]
    settings = [side["settings"] for side in sides]
    differing = [
        name
        for name in dict.fromkeys(name for own in settings for name in own)
        if len({str(own.get(name)) for own in settings}) > 1
    ]
    standings = [
        (f"{letter} {kind}", known)
        for letter, side in zip("AB", sides, strict=False)
        for kind, known in (("best", side["best"]), ("student", side["student"]))
        if known is not None
    ]
    return page(
        request,
        "compare.html",
        names=names,
        chosen=chosen,
        sides=sides,
        differing=differing,
        chart=chart_of_standings(standings) if standings else "",
    )


async def _runs(request: Request) -> dict[str, Any]:
    async with await open_store(request) as store:
        summaries = await store.ask(run_queries.summaries)
        return {
            "summaries": summaries,
            "channels": await store.ask(served_by_channel),
            "over": all(summary.over for summary in summaries),
        }


async def _side(store: Reader, run_id: str) -> dict[str, Any]:
    summary = await store.ask(run_queries.summary, run_id)
    return {
        "summary": summary,
        "best": summary.best,
        "student": summary.student,
        "settings": summary.settings,
    }


async def _facts(request: Request, store: Reader) -> dict[str, Any]:
    run_id = name_in(request, "run")
    summary = await store.ask(run_queries.summary, run_id)
    last = await store.last_event(run_id)
    opened, closed = summary.steps_opened, summary.steps_closed
    listed = range(opened)[-STEPS_LISTED:]
    charted = {*run_queries.evenly_chosen(opened, MOST_POINTS), closed - 1}
    steps = await store.ask(run_queries.step_scores, run_id, {*charted, *listed})
    asked = whole(request.query_params.get("step"))
    bucket_step = max((step.step for step in steps), default=0) if asked is None else asked
    events = await store.events(run_id, max(0, last - EVENTS_SHOWN))
    best, student = summary.best, summary.student
    spending = await store.ask(score_queries.spending_by_step, run_id, charted)
    by_spending = spending if summary.run.result is None else [*spending, _end(summary)]
    objectives = await store.ask(score_queries.objective_scores, run_id)
    errors = await store.ask(rollout_queries.failures, run_id)
    known = _standings(student, best)

    def link(number: int) -> str:
        return request.url_for("program", run=slug(run_id), number=number).path

    return {
        "summary": summary,
        "run_id": run_id,
        "best": best,
        "student": student,
        "standings": chart_of_standings(known) if known else "",
        "changes": await _changes(store, run_id, best),
        "steps": [step for step in steps if step.step in listed],
        "earlier_steps": listed.start,
        "chart": chart_by_step([step for step in steps if step.step in charted], spending, student),
        "by_calls": chart_by_spending(by_spending, student, "calls"),
        "by_cost": chart_by_spending(by_spending, student, "cost"),
        "best_by_step": spending[-1].best if spending else None,
        "objectives": objectives,
        "objective_names": list(dict.fromkeys(name for own in objectives.values() for name in own)),
        "objective_chart": chart_of_objectives(objectives, link),
        "front": pareto_front(objectives),
        "errors": errors[:ERRORS_SHOWN],
        "more_errors": len(errors[ERRORS_SHOWN:]),
        "settings": summary.settings,
        "actors": await store.ask(run_queries.actors, run_id),
        "events": [(event, described(event)) for event in reversed(events)],
        "last": last,
        "bucket_step": bucket_step,
        "buckets": await store.ask(pool_queries.examples_of_step, run_id, bucket_step),
    }


def _end(summary: RunSummary) -> StepSpending:
    """Return what a finished run spent in all, and its winner. The last rollouts of a run follow its last step."""
    usage = summary.usage
    return StepSpending(
        -1, usage.calls, usage.tokens, usage.cost, summary.run.updated - summary.run.created, summary.best
    )


def _standings(student: Standing | None, best: Standing | None) -> list[tuple[str, Standing]]:
    known: list[tuple[str, Standing]] = []
    if student is not None:
        known.append(("student", student))
    if best is not None and best.program != STUDENT:
        known.append(("best", best))
    return known


async def _changes(store: Reader, run_id: str, best: Standing | None) -> Sequence[tuple[str, str]]:
    """Return what the best program changed in the student's prompt."""
    if best is None or best.program == STUDENT:
        return []
    program = await store.ask(pool_queries.program, run_id, best.program)
    student = await store.ask(pool_queries.program, run_id, STUDENT)
    return diff_lines(Configuration.from_json(program.configuration), Configuration.from_json(student.configuration))
