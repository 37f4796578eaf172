"""The command that serves the dashboard."""

from __future__ import annotations

import secrets
from functools import partial
from typing import Annotated
from urllib.parse import quote

import typer

from simba_actors.cli.arguments import DEFAULT_STORE, AsJSON, StorePath, check_words
from simba_actors.cli.output import fail
from simba_actors.cli.servers import (
    Certificate,
    ClientCA,
    GRPCServer,
    Key,
    checked_tls,
    http_server,
    import_grpc,
    listen,
    serve_until_interrupted,
    shown_host,
)
from simba_actors.errors import ConfigError

LOOPBACK = ("127.0.0.1", "::1", "localhost")


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
    actions: Annotated[
        bool, typer.Option("--actions", help="Allow publishing, rolling back and control of runs.")
    ] = False,
    channels: Annotated[
        bool, typer.Option("--channels", help="Let live programs on other hosts follow channels and report scores.")
    ] = False,
    grpc_port: Annotated[
        int | None,
        typer.Option(
            help="Serve channels over gRPC too, at this port; 0 takes any free one. Needs the extra `grpc`.",
            min=0,
            max=65535,
            show_default=False,
        ),
    ] = None,
    certificate: Certificate = None,
    key: Key = None,
    client_ca: ClientCA = None,
    store: StorePath = DEFAULT_STORE,
    as_json: AsJSON = False,
) -> None:
    """Serve the dashboard of a store until interrupted. Its address is printed first.

    With --channels, live programs on other hosts follow the store's channels at that address.

    With --grpc-port, they follow them over gRPC, at a second address that is printed. All present the same token.
    """
    check_words([host])
    try:
        from simba_actors.web import dashboard
    except ImportError as error:
        fail(ConfigError(f"serve needs the extra `web` ({error}): pip install 'simba_actors[web]'"), as_json=as_json)
    if token is None and host not in LOOPBACK:
        token = secrets.token_urlsafe(24)
    try:
        tls = checked_tls(certificate, key, client_ca)
        app = dashboard(store, token=token, actions=actions, channels=channels)
        listening = listen(host, port)
        server = http_server(app, tls)
    except ConfigError as error:
        fail(error, as_json=as_json)
    grpc = None
    if grpc_port is not None:
        serve_channels = import_grpc("simba_actors.web.channels.over_grpc", as_json=as_json).serve_channels
        grpc = GRPCServer(partial(serve_channels, store), host, grpc_port, token, tls)
    scheme = "http" if certificate is None else "https"
    serve_until_interrupted(
        server, listening, lambda bound: _address(scheme, host, bound, token), grpc, as_json=as_json
    )


def _address(scheme: str, host: str, port: int, token: str | None) -> str:
    return f"{scheme}://{shown_host(host)}:{port}/" + (f"?token={quote(token, safe='')}" if token else "")
