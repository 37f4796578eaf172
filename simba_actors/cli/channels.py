"""Commands about channels: what live programs run. They change the store, but nothing of any run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from simba_actors.cli.arguments import (
    DEFAULT_STORE,
    AsJSON,
    ChannelName,
    Reason,
    StorePath,
    check_words,
    checked_number,
    run_and_program,
)
from simba_actors.cli.output import local_time, print_json, print_table, print_text, run
from simba_actors.publishing.channel import Channel, Source
from simba_actors.publishing.publications import Publication, Served, history, served, served_by_channel
from simba_actors.store import Reader
from simba_actors.store.queries import lookup


def channels(store: StorePath = DEFAULT_STORE, as_json: AsJSON = False) -> None:
    """List the channels of a store and what each serves."""
    found = run(_all_channels(store), as_json=as_json)
    if as_json:
        print_json(
            [
                {
                    "channel": name,
                    "version": served.version,
                    "current": None if served.current is None else asdict(served.current),
                    "canary": None if served.canary is None else asdict(served.canary),
                }
                for name, served in found
            ]
        )
        return
    if not found:
        print_text(f"{store} has no channels yet: publish a program with simba-actors publish")
        return
    print_table(
        ("channel", "serves", "from", "canary", "since"),
        (
            (
                name,
                "" if served.current is None else f"version {served.current.version}",
                "" if served.current is None else _origin(served.current),
                "" if served.canary is None else f"version {served.canary.version}, {_share(served.canary)}",
                "" if served.current is None else local_time(served.current.time),
            )
            for name, served in found
        ),
    )


def versions(
    channel: ChannelName,
    limit: Annotated[int, typer.Option("--limit", help="Maximum number.", min=1, callback=checked_number)] = 100,
    store: StorePath = DEFAULT_STORE,
    as_json: AsJSON = False,
) -> None:
    """List the versions of a channel, the newest first."""
    known, served = run(_history(store, channel), as_json=as_json)
    history = known[:limit]
    if as_json:
        print_json([{**asdict(p), "serving": _role(p, served)} for p in history])
        return
    print_table(
        ("version", "kind", "from", "serving", "by", "when", "reason"),
        ((p.version, p.kind, _origin(p), _role(p, served), p.publisher, local_time(p.time), p.reason) for p in history),
        numbers=("version",),
    )
    if len(known) > limit:
        print_text(f"\nthe newest of {len(known):,} versions; --limit shows more")


def publish(
    words: Annotated[
        list[str], typer.Argument(metavar="[RUN] N CHANNEL", help="The run, the program and the channel to publish to.")
    ],
    share: Annotated[
        float | None,
        typer.Option(help="Publish as a canary to this share of calls, above 0 and below 1.", show_default=False),
    ] = None,
    reason: Reason = None,
    store: StorePath = DEFAULT_STORE,
    as_json: AsJSON = False,
) -> None:
    """Make a program what a channel's live programs run, or with --share try it on a share of their calls."""
    *source, channel = check_words(words)
    run_name, name = run_and_program(source)
    if name is None:
        raise typer.BadParameter("name the program: [RUN] N CHANNEL, with N a number, `best` or `student`")
    published = _publish(store, channel, run_name, name, share, reason or "published from the command line")
    _print_publication(run(published, as_json=as_json), as_json=as_json)


def promote(
    channel: ChannelName, reason: Reason = None, store: StorePath = DEFAULT_STORE, as_json: AsJSON = False
) -> None:
    """Give a channel's canary to all calls."""
    work = _promote(store, channel, reason or "promoted from the command line")
    _print_publication(run(work, as_json=as_json), as_json=as_json)


def rollback(
    channel: ChannelName,
    to: Annotated[
        int | None,
        typer.Option(help="The version to bring back; by default the one served before.", callback=checked_number),
    ] = None,
    reason: Reason = None,
    store: StorePath = DEFAULT_STORE,
    as_json: AsJSON = False,
) -> None:
    """Bring back an earlier version of a channel, or end its canary."""
    work = _rollback(store, channel, to, reason or "rolled back from the command line")
    _print_publication(run(work, as_json=as_json), as_json=as_json)


def prune(
    channel: ChannelName,
    keep: Annotated[
        int, typer.Option("--keep", help="Number of newest versions to keep.", callback=checked_number)
    ] = 20,
    store: StorePath = DEFAULT_STORE,
    as_json: AsJSON = False,
) -> None:
    """Delete the configurations of a channel's old versions, except those that are served."""
    pruned = run(_prune(store, channel, keep), as_json=as_json)
    if as_json:
        print_json({"channel": channel, "pruned": pruned})
    else:
        print_text(f"{channel}: {pruned} versions pruned")


async def _all_channels(store: Path) -> Sequence[tuple[str, Served]]:
    async with await Reader.open(store) as queries:
        return await queries.ask(served_by_channel)


async def _history(store: Path, channel: str) -> tuple[list[Publication], Served]:
    async with await Reader.open(store) as queries:
        return (await queries.ask(history, channel))[::-1], await queries.ask(served, channel)


async def _publish(
    store: Path, channel_name: str, run_name: str | None, name: str, share: float | None, reason: str
) -> Publication:
    async with await Reader.open(store) as queries:
        run_id = await queries.ask(lookup.find_run_id, run_name)
        source = Source(run_id, await queries.ask(lookup.find_program, run_id, name))
    async with await Channel.open(store, channel_name) as channel:
        if share is None:
            return await channel.publish(source, reason=reason)
        return await channel.start_canary(source, share=share, reason=reason)


async def _promote(store: Path, name: str, reason: str) -> Publication:
    await _check_channel(store, name)
    async with await Channel.open(store, name) as channel:
        return await channel.promote(reason=reason)


async def _rollback(store: Path, name: str, to: int | None, reason: str) -> Publication:
    await _check_channel(store, name)
    async with await Channel.open(store, name) as channel:
        return await channel.rollback(to, reason=reason)


async def _prune(store: Path, name: str, keep: int) -> int:
    await _check_channel(store, name)
    async with await Channel.open(store, name) as channel:
        return await channel.prune(keep)


async def _check_channel(store: Path, name: str) -> None:
    """Raise UnknownChannelError or StoreError before anything opens the store for writing, which would create it."""
    async with await Reader.open(store) as queries:
        await queries.ask(history, name)


def _print_publication(publication: Publication, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(publication))
    elif publication.kind == "canary":
        tried = f"version {publication.version} on {_share(publication)}"
        print_text(f"{publication.channel} tries {tried} ({_origin(publication)})")
    else:
        print_text(f"{publication.channel} is at version {publication.version} ({_origin(publication)})")


def _origin(publication: Publication) -> str:
    if publication.run_id is not None:
        return f"program {publication.program} of {publication.run_id}"
    return f"version {publication.origin}" if publication.origin is not None else "elsewhere"


def _role(publication: Publication, served: Served) -> str:
    if publication == served.canary:
        return f"to {_share(publication)}"
    return "yes" if publication == served.current else ""


def _share(canary: Publication) -> str:
    return f"{100 * (canary.share or 0.0):.3g}% of calls"
