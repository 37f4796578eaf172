"""Students served to optimizers: in a thread of this process, or by a server that the test scripts."""

from __future__ import annotations

import asyncio
import json
import queue
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dspy
import pytest
import uvicorn

from simba_actors.bridge.http_app import student_app
from simba_actors.bridge.service import StudentService
from tests.support.quiz import quiz_script
from tests.support.scripted_lm import ScriptedLM
from tests.support.waiting import PATIENCE


class HintAndAnswer(dspy.Module):
    """Asks for a hint first."""

    def __init__(self) -> None:
        super().__init__()
        self.hint = dspy.Predict("question -> hint")
        self.answer = dspy.ChainOfThought("question, hint -> answer")

    async def aforward(self, question: str) -> dspy.Prediction:
        hint = await self.hint.acall(question=question)
        return await self.answer.acall(question=question, hint=hint.hint)


def quiz_service(program: dspy.Module | None = None, **settings: Any) -> StudentService:
    """Return a service for `program`, whose LM knows the quiz."""
    settings.setdefault("lm", ScriptedLM(quiz_script))
    return StudentService(program or HintAndAnswer(), **settings)


@contextmanager
def served(service: StudentService, *, token: str | None = None, port: int = 0) -> Generator[str]:
    """Serve a student over HTTP in a thread, and yield its address."""
    listening = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(student_app(service, token=token), log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


DESCRIPTION: dict[str, Any] = {
    "major": 1,
    "minor": 0,
    "name": "Odd",
    "codeVersion": "1",
    "predictors": [
        {
            "name": "answer",
            "instructions": "Answer the question.",
            "inputs": [{"name": "question", "schema": {"type": "string"}}],
            "outputs": [{"name": "answer", "schema": {"type": "string"}}],
        }
    ],
}
"""The description of a small student."""

Answer = Callable[[dict[str, Any]], "bytes | dict[str, Any] | tuple[int, dict[str, str], bytes | dict[str, Any]]"]
"""Returns the answer to a message: JSON or bytes, alone or with a status and headers."""


def succeeded(request: dict[str, Any], answer: str = "blue", **fields: Any) -> dict[str, Any]:
    """Return a valid reply to a Run."""
    step = {"predictor": "answer", "inputs": request["inputs"], "outputs": {"answer": answer}}
    return {
        "key": request["key"],
        "outcome": "OUTCOME_SUCCEEDED",
        "prediction": {"answer": answer},
        "trace": [step],
        "usage": {"calls": 1, "promptTokens": 10, "completionTokens": 2, "cost": 0.001},
        "codeVersion": "1",
        **fields,
    }


class OddStudent:
    """A student that answers each method as the test says, over real HTTP. `calls` are the messages that it
    received."""

    def __init__(self, run: Answer, *, describe: Answer | None = None, port: int = 0) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, Answer] = {
            "Describe": describe or (lambda request: DESCRIPTION),
            "Run": run,
            "Cancel": lambda request: {"found": True},
        }
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.01])

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def count(self, method: str) -> int:
        return sum(name == method for name, _ in self.calls)

    def __enter__(self) -> OddStudent:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join(PATIENCE)
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        student = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                method = self.path.rpartition("/")[2]
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                student.calls.append((method, message))
                answer = student.answers[method](message)
                status, headers, body = answer if isinstance(answer, tuple) else (200, {}, answer)
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - so it is called
                """Log nothing."""

        return Handler


@contextmanager
def served_over_grpc(service: StudentService, *, token: str | None = None) -> Generator[str]:
    """Serve a student over gRPC in a thread, and yield its address. Skip the test that needs it without gRPC."""
    pytest.importorskip("grpc")
    from simba_actors.bridge.grpc_server import start_grpc_server

    port: queue.SimpleQueue[int] = queue.SimpleQueue()
    loop, over = asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        server, bound = await start_grpc_server(service, "127.0.0.1:0", token=token)
        port.put(bound)
        await over.wait()
        await server.stop(0)
        await service.close()

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    try:
        yield f"grpc://127.0.0.1:{port.get(timeout=PATIENCE)}"
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(PATIENCE)
        loop.close()
