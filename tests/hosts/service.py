"""A service with a live program, for the servers that the tests start. SERVICE_STORE names the store to follow."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from fastapi import FastAPI

from simba_actors import LiveProgram
from tests.support.live import sayer

live = LiveProgram(sayer(), store=os.environ["SERVICE_STORE"])
if "SERVICE_WARM" in os.environ:
    live(question="Are you warm?")

app = FastAPI()


@app.get("/ask")
async def ask() -> dict[str, Any]:
    prediction = await live.acall(question="?")
    return {"answer": prediction.answer, "pid": os.getpid()}


@app.get("/ask_in_a_thread")
def ask_in_a_thread() -> dict[str, Any]:
    return {"answer": live(question="?").answer, "pid": os.getpid()}


def wsgi(environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], Any]) -> Iterable[bytes]:
    """The same service for servers without an event loop."""
    answer = live(question="?").answer
    start_response("200 OK", [("content-type", "application/json")])
    return [f'{{"answer": "{answer}", "pid": {os.getpid()}}}'.encode()]
