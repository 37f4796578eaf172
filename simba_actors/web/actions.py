"""Actions of the pages, if enabled: pausing, resuming and stopping a run, publishing a program, rolling back."""

from __future__ import annotations

from typing import cast
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from simba_actors.errors import ConfigError
from simba_actors.publishing.channel import Channel, Source
from simba_actors.store.records import RequestKind
from simba_actors.store.requests import send_request
from simba_actors.web.bodies import read_body
from simba_actors.web.rendering import name_in, site, slug, whole

BY = "dashboard"
"""Publisher of the versions that pages publish, and requester of what they ask of runs."""

LARGEST_FORM = 1024 * 1024
"""Maximum size of a form in bytes."""

SHOWN = "shown:"
"""Prefix of the fields that hold the version of each channel that the page showed."""


async def publish(request: Request) -> Response:
    """Publish a program to a channel, unless the channel has changed since the page was shown."""
    form = await _form(request)
    name, reason = form.get("channel", ""), form.get("reason") or "published from the dashboard"
    source = Source(form.get("run", ""), _number(form, "program"))
    shown = _number(form, SHOWN + name) if SHOWN + name in form else 0
    async with await Channel.open(site(request).store, name) as channel:
        await channel.publish(source, expected=shown, reason=reason, by=BY)
    return _back_to(request, name)


async def rollback(request: Request) -> Response:
    """Bring back an earlier version of a channel."""
    form = await _form(request)
    name, reason = name_in(request, "channel"), form.get("reason") or "rolled back from the dashboard"
    async with await Channel.open(site(request).store, name) as channel:
        await channel.rollback(_number(form, "to"), reason=reason, by=BY)
    return _back_to(request, name)


async def ask(request: Request) -> Response:
    """Ask the process that has a run open to pause, resume or stop it."""
    run_id, kind = name_in(request, "run"), cast("RequestKind", request.path_params["kind"])
    await send_request(site(request).store, run_id, kind, by="the dashboard")
    return RedirectResponse(request.url_for("run", run=slug(run_id)).path, 303)


async def _form(request: Request) -> dict[str, str]:
    try:
        return dict(parse_qsl((await read_body(request, LARGEST_FORM)).decode("ascii"), errors="strict"))
    except UnicodeDecodeError:
        raise ConfigError("the form must be percent-encoded UTF-8, as browsers send it") from None


def _back_to(request: Request, channel: str) -> Response:
    return RedirectResponse(request.url_for("channel", channel=slug(channel)).path, 303)


def _number(form: dict[str, str], name: str) -> int:
    number = whole(form.get(name))
    if number is None:
        raise ConfigError(f"{name}={form.get(name)!r:.80}: must be a whole number")
    return number
