"""Commands for students that run elsewhere: serve one written in Python, and check one in any language."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from simba_actors.cli.arguments import AsJSON, check_words
from simba_actors.cli.output import fail, print_json_line, print_text
from simba_actors.cli.serving import LAST_ANSWERS_SECONDS, listen
from simba_actors.errors import ConfigError, SimbaError

if TYPE_CHECKING:
    from simba_actors.bridge.service import StudentService


def student(
    app: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:NAME",
            help="A dspy.Module, a StudentService, or a function without arguments that returns one.",
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; anything but loopback needs a token or --client-ca.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes any free port.", min=0, max=65535)] = 7000,
    grpc_port: Annotated[
        int | None,
        typer.Option(
            help="Serve gRPC too, at this port; 0 takes any free one. Needs the extra `grpc`.",
            min=0,
            max=65535,
            show_default=False,
        ),
    ] = None,
    lm: Annotated[
        str | None,
        typer.Option(help="LM of the program, as in dspy.LM(…), unless the module sets one.", show_default=False),
    ] = None,
    max_concurrency: Annotated[int, typer.Option(help="Runs at a time.", min=1)] = 32,
    certificate: Annotated[Path | None, typer.Option(help="Certificate for TLS (PEM).", show_default=False)] = None,
    key: Annotated[Path | None, typer.Option(help="Key of the certificate (PEM).", show_default=False)] = None,
    client_ca: Annotated[
        Path | None,
        typer.Option(help="Accept only clients with a certificate of this authority (PEM).", show_default=False),
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Serve a program to optimizers in other processes until interrupted. Its address is printed first.

    The environment variable SIMBA_STUDENT_TOKEN has the token that callers must present.
    """
    check_words([app, host])
    try:
        import uvicorn

        from simba_actors.bridge.http_app import student_app
        from simba_actors.bridge.security import TLS, TOKEN_VARIABLE, is_loopback
    except ImportError as error:
        fail(ConfigError(f"student needs the extra `web` ({error}): pip install 'simba_actors[web]'"), as_json=as_json)
    start_grpc: Any = None
    if grpc_port is not None:
        try:
            from simba_actors.bridge.grpc_server import start_grpc_server as start_grpc
        except ImportError as error:
            fail(
                ConfigError(f"--grpc-port needs the extra `grpc` ({error}): pip install 'simba_actors[grpc]'"),
                as_json=as_json,
            )
    token = os.environ.get(TOKEN_VARIABLE) or None
    try:
        if not is_loopback(host) and token is None and client_ca is None:
            raise ConfigError(
                f"--host {host} lets others in: set the environment variable {TOKEN_VARIABLE} to a token that the "
                "optimizer presents, or give --client-ca"
            )
        if (certificate is None) != (key is None) or (client_ca is not None and certificate is None):
            raise ConfigError("TLS needs --certificate and --key, and so does --client-ca")
        service = _service(app, lm, max_concurrency)
        listening = listen(host, port)
        config = uvicorn.Config(
            student_app(service, token=token),
            log_level="warning",
            proxy_headers=False,
            timeout_graceful_shutdown=LAST_ANSWERS_SECONDS,
            ssl_certfile=certificate,
            ssl_keyfile=key,
            ssl_ca_certs=None if client_ca is None else str(client_ca),
            ssl_cert_reqs=ssl.CERT_NONE if client_ca is None else ssl.CERT_REQUIRED,
        )
        config.load()
    except SimbaError as error:
        fail(error, as_json=as_json)
    except OSError as error:
        fail(ConfigError(f"the certificate, the key or the authority can't be read: {error}"), as_json=as_json)
    shown, secure = f"[{host}]" if ":" in host else host, "" if certificate is None else "s"
    addresses = {"address": f"http{secure}://{shown}:{listening.getsockname()[1]}"}

    async def serve() -> None:
        server: Any = None
        if grpc_port is not None:
            tls = TLS(ca=client_ca, certificate=certificate, key=key)
            server, bound = await start_grpc(service, f"{shown}:{grpc_port}", token=token, tls=tls)
            addresses["grpc"] = f"grpc{secure}://{shown}:{bound}"
        if as_json:
            print_json_line(addresses)
        else:
            print_text("\n".join(addresses.values()))
        try:
            await uvicorn.Server(config).serve(sockets=[listening])
        finally:
            if server is not None:
                await server.stop(LAST_ANSWERS_SECONDS)

    try:
        asyncio.run(serve())
    except (RuntimeError, OSError) as error:
        fail(ConfigError(f"can't serve gRPC: {error}; give another --grpc-port"), as_json=as_json)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def conformance(
    address: Annotated[
        str, typer.Argument(help="Address of the student, as in http://127.0.0.1:7000 or grpc://127.0.0.1:7001.")
    ],
    inputs: Annotated[
        str | None,
        typer.Option(
            help="What to run the program on, as JSON; by default made up from its types.", show_default=False
        ),
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="Authority that vouches for it (PEM).", show_default=False)] = None,
    certificate: Annotated[Path | None, typer.Option(help="Own certificate (PEM).", show_default=False)] = None,
    key: Annotated[Path | None, typer.Option(help="Key of the certificate (PEM).", show_default=False)] = None,
    as_json: AsJSON = False,
) -> None:
    """Check whether a student keeps to the contract. Exits with 1 if it does not.

    The program runs about ten times, with its own LM. The environment variable SIMBA_STUDENT_TOKEN has the token.
    """
    check_words([address, inputs or ""])
    from simba_actors.bridge.calls import StudentCallError
    from simba_actors.bridge.conformance import check
    from simba_actors.bridge.security import TLS

    failed = 0
    try:
        tls = TLS(ca=ca, certificate=certificate, key=key)
        for finding in check(address, inputs=_object(inputs), tls=tls):
            failed += finding.problem is not None
            if as_json:
                print_json_line({"name": finding.name, "problem": finding.problem})
            else:
                print_text(
                    f"ok      {finding.name}"
                    if finding.problem is None
                    else f"FAILED  {finding.name}: {finding.problem}"
                )
    except (SimbaError, StudentCallError) as error:
        fail(error, as_json=as_json)
    if failed:
        raise typer.Exit(1)


def _object(text: str | None) -> dict[str, Any] | None:
    """Return `text` as a JSON object. Raise ConfigError if it is something else."""
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"--inputs is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError('--inputs must be a JSON object, as in \'{"question": "What is 1 + 1?"}\'')
    return cast("dict[str, Any]", found)


def _service(app: str, lm: str | None, max_concurrency: int) -> StudentService:
    """Return the service that `app` names, as in "module:name". Raise SimbaError if it names none."""
    import dspy

    from simba_actors.bridge.service import StudentService

    made = _made(app)
    if isinstance(made, StudentService):
        return made
    if not isinstance(made, dspy.Module):
        raise ConfigError(f"{app} is {made!r:.80}: it must be a dspy.Module, a StudentService, or make one")
    return StudentService(made, lm=None if lm is None else dspy.LM(lm), max_concurrency=max_concurrency)


def _made(app: str) -> Any:
    import dspy

    module_name, _, name = app.partition(":")
    if not module_name or not name:
        raise ConfigError(f"{app!r} must be MODULE:NAME, as in app:make for `make` in app.py")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{app!r} can't be found: {error}; call this where the module can be imported") from error
    is_made = not callable(found) or isinstance(found, dspy.Module)
    return found if is_made else found()
