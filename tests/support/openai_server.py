"""An LM provider on loopback: real HTTP, scripted replies, and the faults that a test asks for.

    with OpenAIServer(quiz_script) as server:
        lm = server.lm()
        server.faults = Faults(rate_limited=0.3, resets=0.05)

It runs in a thread of its own, with an event loop of its own.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import dspy

from tests.support.scripted_lm import Ask, Script, reply_text
from tests.support.waiting import PATIENCE

Fate = Literal["answered", "rate_limited", "server_error", "reset", "cut", "hung"]

HUGE_SECONDS = 3600.0

ERROR_TYPES: Mapping[int, str] = {
    401: "invalid_request_error",
    402: "insufficient_quota",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}


@dataclass(frozen=True)
class Faults:
    """Shares of calls that meet a fault, and limits beyond which calls are refused with 429.

    Every second refusal has a Retry-After header of `retry_after` seconds. With `status`, every call is answered with
    that HTTP status, and with `text` as the body if there is one. With `down`, every connection is reset.
    """

    rate_limited: float = 0.0
    server_error: float = 0.0
    resets: float = 0.0
    cut: float = 0.0
    hangs: float = 0.0
    status: int | None = None
    text: str | None = None
    down: bool = False
    at_a_time: int | None = None
    per_minute: int | None = None
    retry_after: float = 0.05


class OpenAIServer:
    """Answers `/v1/chat/completions` as a function of the request alone, after `latency` seconds.

    `asks` are the requests that were answered, `fates` counts the outcomes of all calls, and `most_at_a_time` is the
    greatest number of calls that were in flight together. `called` is set when the first call arrives.
    """

    def __init__(self, script: Script, *, latency: float = 0.0, faults: Faults | None = None, seed: int = 0) -> None:
        self.script = script
        self.latency = latency
        self.faults = faults or Faults()
        self.asks: list[Ask] = []
        self.headers: list[Mapping[str, str]] = []
        self.overrides: list[dict[str, Any]] = []
        """Replies that are sent in place of the first answers."""
        self.fates: Counter[Fate] = Counter()
        self.held = False
        """Whether answers wait until this is False again."""
        self.in_flight = 0
        self.most_at_a_time = 0
        self._draws = random.Random(seed)
        self._served: deque[float] = deque()
        self._loop = asyncio.new_event_loop()
        self.called = threading.Event()
        self._up = threading.Event()
        self._over = asyncio.Event()
        self._port = 0
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=[self._serve()], name="openai server"
        )

    @property
    def calls(self) -> int:
        """Number of calls that were received, whatever their outcome."""
        return self.fates.total()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def lm(self, **kwargs: Any) -> dspy.LM:
        return lm_at(self.address, **kwargs)

    def __enter__(self) -> OpenAIServer:
        self._thread.start()
        assert self._up.wait(PATIENCE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(PATIENCE)
        self._loop.close()

    async def _serve(self) -> None:
        connections: set[asyncio.Task[None]] = set()

        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await self._converse(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                writer.transport.abort()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(converse(reader, writer))
            connections.add(task)
            task.add_done_callback(connections.discard)
            task.add_done_callback(lambda _: writer.close())  # Even if it is cancelled before it begins.

        server = await asyncio.start_server(connected, "127.0.0.1", self._port, backlog=1024)
        self._port = server.sockets[0].getsockname()[1]
        self._up.set()
        await self._over.wait()
        server.close()
        await asyncio.sleep(0)
        # Connections are among these tasks, and so are those that were accepted just now.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.sleep(0)
        await asyncio.sleep(0)  # Their transports close their sockets.

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, request after request."""
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[1:-2]
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head)}
            body = json.loads(await reader.readexactly(int(headers["content-length"])))
            self.headers.append(headers)
            self.called.set()
            self.in_flight += 1
            self.most_at_a_time = max(self.most_at_a_time, self.in_flight)
            try:
                await self._answer(body, writer)
            finally:
                self.in_flight -= 1

    async def _answer(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        faults = self.faults
        fate = self._fate(faults)
        self.fates[fate] += 1
        match fate:
            case "answered":
                await asyncio.sleep(self.latency)
                while self.held:  # noqa: ASYNC110 - it is set in another thread
                    await asyncio.sleep(0.01)
                ask = _ask(body)
                self.asks.append(ask)
                completion = self.overrides.pop(0) if self.overrides else _completion(body, ask, self.script)
                writer.write(_streamed(completion) if body.get("stream") else _response(200, completion))
            case "rate_limited":
                headers = {"Retry-After": str(faults.retry_after)} if self.fates[fate] % 2 else {}
                writer.write(_response(429, _error(429), headers))
            case "server_error":
                status = faults.status or 500
                key = self.headers[-1].get("authorization", "") if status == 401 else ""
                if faults.text is not None:
                    writer.write(_text_response(status, faults.text))
                else:
                    writer.write(_response(status, _error(status, key)))
            case "reset":
                raise ConnectionResetError
            case "cut":
                whole = _response(200, _completion(body, _ask(body), self.script))
                writer.write(whole[: self._draws.randrange(len(whole))])
                await writer.drain()
                raise ConnectionResetError
            case "hung":
                await asyncio.sleep(HUGE_SECONDS)
        await writer.drain()

    def _fate(self, faults: Faults) -> Fate:
        if faults.down:
            return "reset"
        if faults.status is not None:
            return "server_error"
        if faults.at_a_time is not None and self.in_flight > faults.at_a_time:
            return "rate_limited"
        if faults.per_minute is not None and not self._within(faults.per_minute):
            return "rate_limited"
        draw = self._draws.random()
        shares: tuple[tuple[Fate, float], ...] = (
            ("rate_limited", faults.rate_limited),
            ("server_error", faults.server_error),
            ("reset", faults.resets),
            ("cut", faults.cut),
            ("hung", faults.hangs),
        )
        for fate, share in shares:
            draw -= share
            if draw < 0:
                return fate
        return "answered"

    def _within(self, per_minute: int) -> bool:
        now = time.monotonic()
        while self._served and self._served[0] < now - 60:
            self._served.popleft()
        if len(self._served) >= per_minute:
            return False
        self._served.append(now)
        return True


def lm_at(address: str, model: str = "openai/quiz", **kwargs: Any) -> dspy.LM:
    """Return an LM that calls the server at `address`, which may be in another process."""
    settings: dict[str, Any] = {"api_base": address, "api_key": "none", "cache": False, **kwargs}
    return dspy.LM(model, **settings)


def _ask(body: dict[str, Any]) -> Ask:
    messages = [(message["role"], _text(message["content"])) for message in body["messages"]]
    system = "".join(text for role, text in messages if role in ("system", "developer"))
    others = tuple((role, text) for role, text in messages if role not in ("system", "developer"))
    return Ask(system, others, body.get("temperature"), body.get("seed"))


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _completion(body: dict[str, Any], ask: Ask, script: Script) -> dict[str, Any]:
    text = reply_text(ask, script(ask))
    words = len(ask.prompt.split()), len(text.split())
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": words[0], "completion_tokens": words[1], "total_tokens": sum(words)},
    }


def _streamed(completion: dict[str, Any]) -> bytes:
    """Return the completion as server-sent events, one for each word of its choice, if it has one."""
    deltas: list[dict[str, Any]] = []
    for choice in completion["choices"]:
        words = re.findall(r"\S+\s*", choice["message"]["content"])
        deltas += [{"index": 0, "delta": {"content": word}, "finish_reason": None} for word in words]
        deltas.append({"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]})
    chunks = [{**completion, "object": "chat.completion.chunk", "choices": [delta]} for delta in deltas]
    content = "".join(f"data: {data}\n\n" for data in [*map(json.dumps, chunks), "[DONE]"]).encode()
    head = f"HTTP/1.1 200 Scripted\r\nContent-Type: text/event-stream\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def _error(status: int, key: str = "") -> dict[str, Any]:
    kind = ERROR_TYPES.get(status, "api_error")
    return {"error": {"message": f"scripted answer {status} {key}".strip(), "type": kind, "param": None, "code": kind}}


def _response(status: int, body: dict[str, Any], headers: Mapping[str, str] | None = None) -> bytes:
    content = json.dumps(body).encode()
    lines = {"Content-Type": "application/json", "Content-Length": str(len(content)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} Scripted\r\n{head}\r\n".encode() + content


def _text_response(status: int, text: str) -> bytes:
    content = text.encode()
    head = f"HTTP/1.1 {status} Scripted\r\nContent-Type: text/plain\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content
