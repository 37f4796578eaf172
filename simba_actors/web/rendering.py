"""Rendering pages: templates, links, and untrusted text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, unquote

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse

from simba_actors.observe.wording import duration, spending, step_shown, utc_time
from simba_actors.runtime.logs import visible
from simba_actors.store import Reader

HERE = Path(__file__).parent

LONGEST_TEXT = 20_000
"""Maximum number of characters of one value on a page."""

LONGEST_NUMBER = 18
"""Maximum number of digits of a number in an address."""


@dataclass(frozen=True, slots=True)
class Site:
    """Context that all pages share."""

    store: Path
    """The path of the store."""
    actions: bool
    """Whether pages can publish and roll back."""


def site(request: Request) -> Site:
    return cast("Site", request.app.state.site)


async def open_store(request: Request) -> Reader:
    """Return a reader of the dashboard's store, for `async with`."""
    return await Reader.open(site(request).store)


def slug(name: str) -> str:
    """Encode any name as one segment of a path. `name_in` decodes it."""
    # Browsers treat the segments "." and ".." as relative, even if the dots are percent-encoded.
    quoted = quote(name, safe="").replace("~", "%7E")
    return (quoted.replace(".", "%2E") if name in (".", "..") else quoted).replace("%", "~")


def name_in(request: Request, parameter: str) -> str:
    """Return the name in a path that `slug` has encoded."""
    return unquote(str(request.path_params[parameter]).replace("~", "%"))


def number_in(request: Request, parameter: str) -> int:
    """Return a number from the path. Raise HTTPException 404 if it is not one."""
    number = whole(request.path_params[parameter])
    if number is None:
        raise HTTPException(404)
    return number


def whole(text: str | None) -> int | None:
    """Return `text` as a whole number, or None if it is not one that SQLite can hold."""
    return int(text) if text is not None and text.isdecimal() and len(text) <= LONGEST_NUMBER else None


def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Render a template as a page."""

    def url(name: str, **parameters: Any) -> str:
        parts = {key: slug(part) if isinstance(part, str) else part for key, part in parameters.items()}
        return request.url_for(name, **parts).path

    def static(path: str) -> str:
        return request.url_for("static", path=path).path

    html = _environment.get_template(template).render(
        **values, url=url, static=static, actions=site(request).actions, store=str(site(request).store)
    )
    return HTMLResponse(html, status)


def shown(value: Any) -> str:
    """Return an untrusted value as text, cut if it is long, with invisible characters spelled out."""
    text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    rest = len(text) - LONGEST_TEXT
    return visible(text[:LONGEST_TEXT]) + (f"\n… and {rest:,} characters more" if rest > 0 else "")


def _score(value: float | None) -> str:
    return "-" if value is None else f"{float(value):.3f}"


def _when(seconds: float) -> Markup:
    """Return a time in UTC, which the page's script converts to the reader's time zone."""
    moment = utc_time(seconds)
    return Markup('<time datetime="{}">{}</time>').format(
        moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), moment.strftime("%Y-%m-%d %H:%M:%S UTC")
    )


def _environment_of_pages() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {
        "shown": shown,
        "score": _score,
        "when": _when,
        "duration": duration,
        "spending": spending,
        "step_shown": step_shown,
    }
    environment.filters.update(filters)
    return environment


_environment = _environment_of_pages()
