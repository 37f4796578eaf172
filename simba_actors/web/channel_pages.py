"""Pages about channels: what live programs run, what they ran before, and what a version changed."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from simba_actors.programs import Configuration
from simba_actors.publishing.channel_queries import Channels
from simba_actors.web.diffs import diff_lines
from simba_actors.web.rendering import name_in, page, site, whole


async def channel(request: Request) -> Response:
    """A channel's versions, with a comparison of two of them if the query names them."""
    name = name_in(request, "channel")
    before, after = (whole(request.query_params.get(side)) for side in ("before", "after"))
    async with await Channels.open(site(request).store) as channels:
        history = await channels.history(name)
        served = await channels.served(name)
        scores = {} if served.canary is None else await channels.canary_scores(name, served.canary.version)
        lines = None
        if before is not None and after is not None:
            old, new = await channels.configuration(name, before), await channels.configuration(name, after)
            lines = diff_lines(Configuration.from_json(dict(new)), Configuration.from_json(dict(old)))
    kept = [publication.version for publication in history if not publication.pruned]
    return page(
        request,
        "channel.html",
        channel=name,
        history=history[::-1],
        served=served,
        scores=scores,
        kept=kept,
        before=before if before is not None else (kept[-2] if len(kept) > 1 else None),
        after=after if after is not None else (kept[-1] if kept else None),
        lines=lines,
    )
