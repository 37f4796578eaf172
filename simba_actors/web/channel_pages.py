"""The page of a channel: what live programs run, and what they ran before."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from simba_actors.publishing.channel_queries import Channels
from simba_actors.web.rendering import name_in, page, site


async def channel(request: Request) -> Response:
    name = name_in(request, "channel")
    async with await Channels.open(site(request).store) as channels:
        history = await channels.history(name)
        served = await channels.served(name)
        scores = {} if served.canary is None else await channels.canary_scores(name, served.canary.version)
    return page(request, "channel.html", channel=name, history=history[::-1], served=served, scores=scores)
