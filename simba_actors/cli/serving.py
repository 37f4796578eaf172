"""The command that serves the dashboard."""

from __future__ import annotations

import secrets
import socket
from typing import Annotated
from urllib.parse import quote

import typer

from simba_actors.cli.arguments import DEFAULT_STORE, AsJSON, StorePath, check_words
from simba_actors.cli.output import fail, print_json_line, print_text
from simba_actors.errors import ConfigError

LOOPBACK = ("127.0.0.1", "::1", "localhost")

LAST_ANSWERS_SECONDS = 1
"""Seconds that responses in progress may take after the command is interrupted."""


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; anything but loopback needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes any free port.", min=0, max=65535)] = 8642,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="SIMBA_TOKEN",
            help="What a browser must present; generated if needed.",
            show_default=False,
            show_envvar=True,
        ),
    ] = None,
    actions: Annotated[bool, typer.Option("--actions", help="Allow publishing and rolling back.")] = False,
    channels: Annotated[
        bool, typer.Option("--channels", help="Let live programs on other hosts follow channels and report scores.")
    ] = False,
    store: StorePath = DEFAULT_STORE,
    as_json: AsJSON = False,
) -> None:
    """Serve the dashboard of a store until interrupted. Its address is printed first."""
    check_words([host])
    try:
        import uvicorn

        from simba_actors.web import dashboard
    except ImportError as error:
        fail(ConfigError(f"serve needs the extra `web` ({error}): pip install 'simba_actors[web]'"), as_json=as_json)
    if token is None and host not in LOOPBACK:
        token = secrets.token_urlsafe(24)
    try:
        app = dashboard(store, token=token, actions=actions, channels=channels)
        listening = listen(host, port)
    except ConfigError as error:
        fail(error, as_json=as_json)
    address = _address(host, listening.getsockname()[1], token)
    if as_json:
        print_json_line({"address": address})
    else:
        print_text(address)
    # A browser that has stopped reading, such as on a sleeping laptop, would keep its response open forever.
    config = uvicorn.Config(
        app, log_level="warning", proxy_headers=False, timeout_graceful_shutdown=LAST_ANSWERS_SECONDS
    )
    server = uvicorn.Server(config)
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raise ConfigError if there can't be one."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError, OverflowError) as error:
        cause = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"can't listen on {host}, port {port}: {cause}; give another --port or --host") from error


def _address(host: str, port: int, token: str | None) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/" + (f"?token={quote(token, safe='')}" if token else "")
