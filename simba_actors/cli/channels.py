"""Commands about what live programs run. They change the store, and nothing of any run."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from simba_actors.cli.options import DEFAULT_STORE, AsJSON, ChannelName, ProgramNumber, Reason, RunId, StorePath
from simba_actors.cli.output import print_json, print_table, print_text, run
from simba_actors.publishing.channel_queries import Channels
from simba_actors.publishing.publications import Publication, Served

Until = Annotated[int, typer.Option("--keep", help="How many of the newest versions to keep.")]


def versions(channel: ChannelName, store: StorePath = DEFAULT_STORE, as_json: AsJSON = False) -> None:
    """List what a channel serves and served, the newest first."""
    history, served = run(_history(store, channel), as_json=as_json)
    if as_json:
        print_json([{**asdict(p), "serving": _role(p, served)} for p in history])
        return
    print_table(
        ("version", "kind", "from", "serving", "by", "when", "reason"),
        ((p.version, p.kind, _origin(p), _role(p, served), p.publisher, _when(p.time), p.reason) for p in history),
    )


def publish(
    run_id: RunId,
    number: ProgramNumber,
    channel: ChannelName,
    reason: Reason = "published from the command line",
    store: StorePath = DEFAULT_STORE,
    as_json: AsJSON = False,
) -> None:
    """Make a program of a run what the channel's live programs run."""
    _told(run(_publish(store, channel, run_id, number, reason), as_json=as_json), as_json=as_json)


def rollback(
    channel: ChannelName,
    to: Annotated[int | None, typer.Option(help="Which version; by default what was served before.")] = None,
    reason: Reason = "rolled back from the command line",
    store: StorePath = DEFAULT_STORE,
    as_json: AsJSON = False,
) -> None:
    """Bring back an earlier version of a channel."""
    _told(run(_rollback(store, channel, to, reason), as_json=as_json), as_json=as_json)


def prune(channel: ChannelName, keep: Until = 20, store: StorePath = DEFAULT_STORE, as_json: AsJSON = False) -> None:
    """Let go of the configurations of a channel's old versions. What is served is never among them."""
    pruned = run(_prune(store, channel, keep), as_json=as_json)
    if as_json:
        print_json({"channel": channel, "pruned": pruned})
    else:
        print_text(f"{channel}: {pruned} versions pruned")


async def _history(store: Path, channel: str) -> tuple[list[Publication], Served]:
    async with await Channels.open(store) as channels:
        history = await channels.history(channel)
        return history[::-1], await channels.served(channel)


async def _publish(store: Path, name: str, run_id: str, number: int, reason: str) -> Publication:
    from simba_actors.publishing.channel import Channel, Source  # DSPy, which it imports, takes seconds to import.

    async with await Channel.open(store, name) as channel:
        newest = (await channel.served()).version
        return await channel.publish(Source(run_id, number), expected=newest, reason=reason)


async def _rollback(store: Path, name: str, to: int | None, reason: str) -> Publication:
    from simba_actors.publishing.channel import Channel

    async with await Channel.open(store, name) as channel:
        return await channel.rollback(to, reason=reason)


async def _prune(store: Path, name: str, keep: int) -> int:
    from simba_actors.publishing.channel import Channel

    async with await Channel.open(store, name) as channel:
        return await channel.prune(keep)


def _told(publication: Publication, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(publication))
    else:
        print_text(f"{publication.channel} is at version {publication.version} ({_origin(publication)})")


def _origin(publication: Publication) -> str:
    if publication.run_id is not None:
        return f"program {publication.program} of {publication.run_id}"
    return f"version {publication.origin}" if publication.origin is not None else "elsewhere"


def _role(publication: Publication, served: Served) -> str:
    if publication == served.canary:
        return f"to {publication.share:.0%} of calls"
    return "yes" if publication == served.current else ""


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
