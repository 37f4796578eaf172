"""Shared by the commands that serve: addresses, TLS, and two servers on one event loop."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from simba_actors.cli.output import fail, print_json_line, print_text
from simba_actors.errors import ConfigError
from simba_actors.transport.security import TLS

LAST_ANSWERS_SECONDS = 1
"""Seconds that responses in progress may take after a command is interrupted."""

Certificate = Annotated[Path | None, typer.Option(help="Certificate for TLS (PEM).", show_default=False)]

Key = Annotated[Path | None, typer.Option(help="Key of the certificate (PEM).", show_default=False)]

ClientCA = Annotated[
    Path | None,
    typer.Option(help="Accept only clients with a certificate of this authority (PEM).", show_default=False),
]


@dataclass(frozen=True, slots=True)
class GRPCServer:
    """A gRPC server that is started beside the HTTP server."""

    start: Callable[..., Awaitable[tuple[Any, int]]]
    """`start(address, token=…, tls=…)` returns the server with its port."""

    host: str
    """Address to listen on."""

    port: int
    """Port to listen on; 0 takes any that is free."""

    token: str | None
    """What callers must present."""

    tls: TLS
    """Its certificate; without one it serves in the clear."""

    async def serve(self) -> tuple[Any, str]:
        """Start the server, and return it with its address."""
        shown, secure = shown_host(self.host), "" if self.tls.certificate is None else "s"
        server, port = await self.start(f"{shown}:{self.port}", token=self.token, tls=self.tls)
        return server, f"grpc{secure}://{shown}:{port}"


def import_grpc(module: str, *, as_json: bool) -> Any:
    """Return a module that needs the extra `grpc`, or end the command if it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        fail(
            ConfigError(f"--grpc-port needs the extra `grpc` ({error}): pip install 'simba_actors[grpc]'"),
            as_json=as_json,
        )


def shown_host(host: str) -> str:
    """Return a host as it is written in an address."""
    return f"[{host}]" if ":" in host else host


def checked_tls(certificate: Path | None, key: Path | None, client_ca: Path | None) -> TLS:
    """Return the files of a server. Raise ConfigError if one is missing."""
    if (certificate is None) != (key is None) or (client_ca is not None and certificate is None):
        raise ConfigError("TLS needs --certificate and --key, and so does --client-ca")
    return TLS(ca=client_ca, certificate=certificate, key=key)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raise ConfigError if the address can't be used."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError, OverflowError) as error:
        cause = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"can't listen on {host}, port {port}: {cause}; give another --port or --host") from error


def http_server(app: Any, tls: TLS) -> Any:
    """Return uvicorn's server for an ASGI application. Raise ConfigError without uvicorn, or if a file is unusable."""
    try:
        import uvicorn
    except ImportError as error:
        raise ConfigError(f"serving needs the extra `web` ({error}): pip install 'simba_actors[web]'") from error
    config = uvicorn.Config(
        app,
        log_level="warning",
        proxy_headers=False,
        # A browser that has stopped reading, for example on a sleeping laptop, would keep its response open forever.
        timeout_graceful_shutdown=LAST_ANSWERS_SECONDS,
        ssl_certfile=tls.certificate,
        ssl_keyfile=tls.key,
        ssl_ca_certs=None if tls.ca is None else str(tls.ca),
        ssl_cert_reqs=ssl.CERT_NONE if tls.ca is None else ssl.CERT_REQUIRED,
    )
    try:
        config.load()
    except OSError as error:
        raise ConfigError(f"the certificate, the key or the authority can't be read: {error}") from error
    return uvicorn.Server(config)


def serve_until_interrupted(
    server: Any, listening: socket.socket, address: Callable[[int], str], grpc: GRPCServer | None, *, as_json: bool
) -> None:
    """Print the addresses and serve until interrupted.

    Args:
        server: What `http_server` returned.
        listening: Its socket.
        address: Returns the HTTP address for a port.
        grpc: Serves gRPC too; None serves HTTP alone.
        as_json: Whether the addresses are printed as JSON.
    """

    async def serve() -> None:
        addresses = {"address": address(listening.getsockname()[1])}
        other: Any = None
        if grpc is not None:
            try:
                other, addresses["grpc"] = await grpc.serve()
            except (RuntimeError, OSError) as error:
                fail(ConfigError(f"can't serve gRPC: {error}; give another --grpc-port"), as_json=as_json)
        if as_json:
            print_json_line(addresses)
        else:
            print_text("\n".join(addresses.values()))
        try:
            await server.serve(sockets=[listening])
        finally:
            if other is not None:
                await other.stop(LAST_ANSWERS_SECONDS)

    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
