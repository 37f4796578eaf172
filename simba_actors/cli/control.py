"""Commands that ask the process that runs a run to pause, resume or stop it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from simba_actors.cli.arguments import DEFAULT_STORE, AsJSON, Reason, RunName, StorePath
from simba_actors.cli.output import print_json, print_text, run
from simba_actors.store.ownership import find_process
from simba_actors.store.queries import lookup
from simba_actors.store.reading import Reader

DONE = {
    "pause": "pauses when its rollouts in progress are done",
    "resume": "resumes",
    "stop": "stops; to continue, resume it if it has standbys, or start it again",
}


def pause(
    run_name: RunName = None, reason: Reason = None, store: StorePath = DEFAULT_STORE, as_json: AsJSON = False
) -> None:
    """Ask the process that has the run open to pause it."""
    _request("pause", run_name, reason, store, as_json=as_json)


def resume(
    run_name: RunName = None, reason: Reason = None, store: StorePath = DEFAULT_STORE, as_json: AsJSON = False
) -> None:
    """Ask the process that has the run open to resume it after a pause, or its standbys after a stop."""
    _request("resume", run_name, reason, store, as_json=as_json)


def stop(
    run_name: RunName = None, reason: Reason = None, store: StorePath = DEFAULT_STORE, as_json: AsJSON = False
) -> None:
    """Ask the process that has the run open to stop it. Nothing is lost, and no standby takes it over.

    To continue, resume it if it has standbys, or start it again.
    """
    _request("stop", run_name, reason, store, as_json=as_json)


Kind = Literal["pause", "resume", "stop"]


def _request(kind: Kind, name: str | None, reason: str | None, store: Path, *, as_json: bool) -> None:
    run_id, process = run(send(store, name, kind, reason or ""), as_json=as_json)
    if as_json:
        print_json({"run_id": run_id, "request": kind})
    elif process is not None:
        print_text(f"{run_id}: asked its process, which {DONE[kind]}")
    else:
        print_text(f"{run_id}: no process has it open, so it resumes once a standby takes it over, or one starts it")


async def send(store: Path, name: str | None, kind: Kind, reason: str) -> tuple[str, str | None]:
    """Send a request to the owner of a run. Return the run's full name, and the owner's process if there is one."""
    from simba_actors.store.requests import send_request

    async with await Reader.open(store) as reader:
        run_id = await reader.ask(lookup.find_run_id, name)
        process = await reader.ask(find_process, run_id)
    await send_request(store, run_id, kind, reason=reason)
    return run_id, process
