"""Pages about channels: what live programs run, what they ran before, and what a version changed."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from simba_actors.programs import Configuration
from simba_actors.publishing import publications
from simba_actors.publishing.canary import canary_scores
from simba_actors.store import Reader
from simba_actors.web.diffs import diff_lines
from simba_actors.web.rendering import name_in, open_store, page, whole

ROWS_A_PAGE = 100
"""Number of versions on a page."""


async def channel(request: Request) -> Response:
    """Show a channel's versions, with a comparison of two of them if the query names them."""
    name = name_in(request, "channel")
    before, after, first = (whole(request.query_params.get(key)) for key in ("before", "after", "first"))
    first = first or 0
    async with await open_store(request) as store:
        history = await store.ask(publications.history, name)
        served = await store.ask(publications.served, name)
        scores = {} if served.canary is None else await store.ask(canary_scores, name, served.canary.version)
        lines = None
        if before is not None and after is not None:
            old, new = await _configuration(store, name, before), await _configuration(store, name, after)
            lines = diff_lines(new, old)
    kept = [publication.version for publication in history if not publication.pruned]
    return page(
        request,
        "channel.html",
        channel=name,
        history=history[::-1][first : first + ROWS_A_PAGE],
        count=len(history),
        first=first,
        rows_a_page=ROWS_A_PAGE,
        served=served,
        scores=scores,
        comparable=len(kept) > 1,
        before=before if before is not None else (kept[-2] if len(kept) > 1 else None),
        after=after if after is not None else (kept[-1] if kept else None),
        lines=lines,
    )


async def _configuration(store: Reader, channel: str, version: int) -> Configuration:
    return Configuration.from_json(await store.ask(publications.configuration_of_version, channel, version))
