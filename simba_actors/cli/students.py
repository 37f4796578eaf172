"""Commands for students that run elsewhere: serve one written in Python, and check one in any language."""

from __future__ import annotations

import importlib
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from simba_actors.cli.arguments import AsJSON, check_words
from simba_actors.cli.output import fail, print_json_line, print_text
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
from simba_actors.errors import ConfigError, SimbaError
from simba_actors.transport.security import TLS, is_loopback

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
    certificate: Certificate = None,
    key: Key = None,
    client_ca: ClientCA = None,
    as_json: AsJSON = False,
) -> None:
    """Serve a program to optimizers in other processes until interrupted. Its address is printed first.

    The environment variable SIMBA_STUDENT_TOKEN has the token that callers must present.
    """
    check_words([app, host])
    try:
        from simba_actors.bridge.connection import TOKEN_VARIABLE
        from simba_actors.bridge.http_app import student_app
    except ImportError as error:
        fail(ConfigError(f"student needs the extra `web` ({error}): pip install 'simba_actors[web]'"), as_json=as_json)
    grpc_server = None if grpc_port is None else import_grpc("simba_actors.bridge.grpc_server", as_json=as_json)
    token = os.environ.get(TOKEN_VARIABLE) or None
    try:
        if not is_loopback(host) and token is None and client_ca is None:
            raise ConfigError(
                f"--host {host} can be reached from other hosts: set the environment variable {TOKEN_VARIABLE} to a "
                "token that the optimizer presents, or give --client-ca"
            )
        tls = checked_tls(certificate, key, client_ca)
        service = _service(app, lm, max_concurrency)
        listening = listen(host, port)
        server = http_server(student_app(service, token=token), tls)
    except SimbaError as error:
        fail(error, as_json=as_json)
    grpc = None
    if grpc_server is not None and grpc_port is not None:
        grpc = GRPCServer(partial(grpc_server.start_grpc_server, service), host, grpc_port, token, tls)
    address = f"http{'' if certificate is None else 's'}://{shown_host(host)}"
    serve_until_interrupted(server, listening, lambda bound: f"{address}:{bound}", grpc, as_json=as_json)


def conformance(
    address: Annotated[
        str,
        typer.Argument(
            metavar="ADDRESS", help="Address of the student, as in http://127.0.0.1:7000 or grpc://127.0.0.1:7001."
        ),
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
    """Check whether a student follows the contract. Exits with 1 if it does not.

    The program runs about ten times, with its own LM. The environment variable SIMBA_STUDENT_TOKEN has the token.
    """
    check_words([address, inputs or ""])
    from simba_actors.bridge.calls import StudentCallError
    from simba_actors.bridge.conformance import check

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
