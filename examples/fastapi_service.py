"""A service that routes messages, and improves while it runs.

    python examples/fastapi_service.py                              # SmolLM2-135M, on loopback
    curl -s localhost:8000/route -H 'content-type: application/json' -d '{"message": "Tell me a joke"}'
    curl -s localhost:8000/status

A live program answers requests from the first moment. An optimization runs beside it, and publishes what is clearly
better. The next request is answered with that. Kill the service whenever you like and start it again: it continues
where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import dspy
import uvicorn
from fastapi import FastAPI, Header, HTTPException
from local_model import LineAdapter, local_lm, serve
from pydantic import BaseModel
from topics import messages, router, same_topic

from simba_actors import Channel, LiveProgram, Optimizer, OptimizerConfig
from simba_actors.errors import ConfigError, UnknownCallError, UnknownChannelError
from simba_actors.strategies import AppendADemo

CHANNEL = "router"


class Message(BaseModel):
    message: str


class Feedback(BaseModel):
    call: str
    score: float


def main() -> None:
    options = parse_options()
    with model(options) as (lm, adapter), dspy.context(lm=lm, adapter=adapter):
        uvicorn.run(create_app(options.store), port=options.port)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Route messages, and improve while running.")
    parser.add_argument("--model", help="a model, named as in DSPy (default: SmolLM2-135M on this machine)")
    parser.add_argument("--api-base", help="the address of the model's API, if it is not the provider's own")
    parser.add_argument("--store", type=Path, default=Path("service.db"), help="where to keep the run and its versions")
    parser.add_argument("--port", type=int, default=8000, help="a port of 127.0.0.1; 0 takes any free one")
    return parser.parse_args()


@contextmanager
def model(options: argparse.Namespace) -> Generator[tuple[dspy.LM, dspy.Adapter]]:
    """Yield the LM to use, and an adapter whose format it can follow."""
    if options.model is not None:
        base: dict[str, Any] = {"api_base": options.api_base, "api_key": "none"} if options.api_base else {}
        yield dspy.LM(options.model, **base), dspy.ChatAdapter()
        return
    with serve() as address:
        yield local_lm(address), LineAdapter()


def create_app(store: Path) -> FastAPI:
    student = router()
    live = LiveProgram(student, store=store, channel=CHANNEL)
    trainset, _ = messages()
    config = OptimizerConfig(
        student=student,
        metric=same_topic,
        trainset=trainset,
        store=store,
        policy="dspy",  # Scores programs on the same messages, so that they can be compared before the end.
        strategies=[AppendADemo()],
        bsize=32,
        num_candidates=4,
        max_demos=8,
        max_concurrency=8,
        publish="best",
        channel=CHANNEL,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with await Optimizer.start(config) as app.state.optimizer:
            yield
        live.close()

    app = FastAPI(title="Message router", lifespan=lifespan)

    @app.post("/route")
    async def route(message: Message, user: str | None = Header(default=None)) -> dict[str, Any]:
        """Route a message. A user stays on one version while a canary runs."""
        with live.call(key=user) as call:
            prediction = await live.acall(message=message.message)
        return {"topic": prediction.topic, "version": call.version, "call": call.id}

    @app.post("/feedback", status_code=204)
    async def feedback(feedback: Feedback) -> None:
        """Take the score of an answer. Scores decide about a canary."""
        try:
            live.report(feedback.score, feedback.call)
        except (ConfigError, UnknownCallError) as error:
            raise HTTPException(422, str(error)) from error

    @app.get("/status")
    async def status() -> dict[str, Any]:
        run = await app.state.optimizer.status()
        return {
            "run": run.run_id,
            "status": run.status,
            "steps": run.steps_closed,
            "rollouts": run.rollouts,
            "version": live.version,
            "versions": await versions(store),
        }

    return app


async def versions(store: Path) -> list[dict[str, Any]]:
    """Return what was published, and why."""
    async with await Channel.open(store, CHANNEL) as channel:
        try:
            history = await channel.history()
        except UnknownChannelError:
            return []
    return [{"version": p.version, "kind": p.kind, "program": p.program, "reason": p.reason} for p in history]


if __name__ == "__main__":
    main()
