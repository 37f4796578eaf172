"""The ASGI application."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from simba_actors.errors import SimbaError
from simba_actors.transport.security import check_token
from simba_actors.web import actions as act
from simba_actors.web import channel_pages, program_pages, run_pages
from simba_actors.web.bodies import client_gone
from simba_actors.web.channels import over_http
from simba_actors.web.channels.watcher import Watcher
from simba_actors.web.errors import broken, not_found, simba_error
from simba_actors.web.guard import AccessGuard, SafeHeaders
from simba_actors.web.rendering import HERE, Site
from simba_actors.web.stream import stream_events


def dashboard(
    store: str | Path, *, token: str | None = None, actions: bool = False, channels: bool = False
) -> Starlette:
    """Return the dashboard of a store, to mount in an application or to serve on its own.

        app.mount("/simba", dashboard("simba.db", token=os.environ["DASHBOARD_TOKEN"]))

    Args:
        store: Path of the SQLite file. Only actions and reported scores write to it.
        token: What a browser must present once, as `?token=…`, and a program as `Authorization: Bearer …`. Without a
            token only direct connections from this machine are answered. A local proxy that adds no header of its own
            can't be detected: set a token before putting a proxy in front.
        actions: Whether pages can publish and roll back versions, and pause, resume and stop runs.
        channels: Whether live programs on other hosts can follow channels and report scores, as in
            `LiveProgram(student, store="https://host/simba", token=…)`.

    Raises:
        ConfigError: The token is empty or has characters other than visible ASCII.
    """
    check_token(token)
    routes: list[BaseRoute] = [
        Route("/", run_pages.runs, name="runs"),
        Route("/live", run_pages.runs_live, name="runs_live"),
        Route("/compare", run_pages.compare, name="compare"),
        Route("/runs/{run}", run_pages.run, name="run"),
        Route("/runs/{run}/live", run_pages.live, name="live"),
        Route("/runs/{run}/events", stream_events, name="events"),
        Route("/runs/{run}/programs", program_pages.pool, name="pool"),
        Route("/runs/{run}/programs/{number}", program_pages.program, name="program"),
        Route("/runs/{run}/programs/{number}/failures", program_pages.failures, name="failures"),
        Route("/runs/{run}/steps/{step}/examples/{example}", program_pages.bucket, name="bucket"),
        Route("/channels/{channel}", channel_pages.channel, name="channel"),
        Mount("/static", StaticFiles(directory=HERE / "static"), name="static"),
    ]
    if actions:
        routes += [
            Route("/publish", act.publish, methods=["POST"], name="publish"),
            Route("/channels/{channel}/rollback", act.rollback, methods=["POST"], name="rollback"),
            Route("/runs/{run}/ask/{kind}", act.ask, methods=["POST"], name="ask"),
        ]
    if channels:
        routes += over_http.routes(Watcher(Path(store)))
    app = Starlette(
        routes=routes,
        middleware=[Middleware(SafeHeaders), Middleware(AccessGuard, token=token)],
        exception_handlers={SimbaError: simba_error, ClientDisconnect: client_gone, 404: not_found, Exception: broken},
    )
    app.state.site = Site(Path(store), actions)
    return app
