"""The command that serves the dashboard."""

from __future__ import annotations

import secrets
from typing import Annotated

import typer

from simba_actors.cli.options import DEFAULT_STORE, StorePath
from simba_actors.cli.output import print_text

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    host: Annotated[str, typer.Option(help="Where to listen; anything but loopback needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes any free one.")] = 8642,
    token: Annotated[
        str | None, typer.Option(envvar="SIMBA_TOKEN", help="What a browser must show; made up if needed.")
    ] = None,
    actions: Annotated[bool, typer.Option("--actions", help="Allow publishing and rolling back.")] = False,
    store: StorePath = DEFAULT_STORE,
) -> None:
    """Serve the dashboard of a store, until interrupted."""
    try:
        import uvicorn

        from simba_actors.web import dashboard
    except ImportError as error:
        print_text(f"serve needs the extra `web` ({error}): pip install 'simba_actors[web]'")
        raise typer.Exit(1) from None
    if token is None and host not in LOOPBACK:
        token = secrets.token_urlsafe(24)
    query = f"/?token={token}" if token else "/"
    print_text(f"http://{host}:{port}{query}")
    uvicorn.run(dashboard(store, token=token, actions=actions), host=host, port=port, log_level="warning")
