"""Pages about runs."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from simba_actors.observe.wording import described
from simba_actors.publishing.channel_queries import Channels
from simba_actors.store.queries import Queries
from simba_actors.web.rendering import name_in, open_store, page, site, whole
from simba_actors.web.score_chart import score_chart, thinned

EVENTS_SHOWN = 40
STEPS_LISTED = 50


async def runs(request: Request) -> Response:
    """All runs, the newest first, and all channels."""
    async with await open_store(request) as store, await Channels.open(site(request).store) as channels:
        return page(request, "runs.html", summaries=await store.summaries(), channels=await channels.names())


async def run(request: Request) -> Response:
    """One run; its live part is replaced as events come in."""
    async with await open_store(request) as store:
        return page(request, "run.html", **await _facts(request, store))


async def live(request: Request) -> Response:
    """The live part of a run's page alone."""
    async with await open_store(request) as store:
        return page(request, "run_live.html", **await _facts(request, store))


async def _facts(request: Request, store: Queries) -> dict[str, Any]:
    run_id = name_in(request, "run")
    summary = await store.summary(run_id)
    last = await store.last_event(run_id)
    steps = await store.step_scores(run_id)
    asked = whole(request.query_params.get("step"))
    bucket_step = max((step.step for step in steps), default=0) if asked is None else asked
    events = await store.events(run_id, max(0, last - EVENTS_SHOWN))
    return {
        "summary": summary,
        "run_id": run_id,
        "steps": steps[-STEPS_LISTED:],
        "earlier_steps": len(steps[:-STEPS_LISTED]),
        "chart": score_chart(thinned(steps), summary.student),
        "actors": await store.actors(run_id),
        "events": [(event, described(event)) for event in reversed(events)],
        "last": last,
        "bucket_step": bucket_step,
        "buckets": await store.examples_of_step(run_id, bucket_step),
    }
