"""A service that routes messages, and improves while it runs.

    python examples/fastapi_service.py                              # SmolLM2-135M, on loopback
    curl -s localhost:8000/route -H 'content-type: application/json' -d '{"message": "Tell me a joke"}'
    curl -s localhost:8000/status

A live program answers requests from the first moment. An optimization runs beside it, and publishes what is clearly
better. The next request is answered with that. Kill the service whenever you like and start it again: it continues
where it was.

With several workers, each answers requests and one of them works on the run. If that worker ends, another continues:

    SERVICE_MODEL=openai/gpt-4o-mini uvicorn --app-dir examples --workers 4 --timeout-worker-healthcheck 30 \\
        fastapi_service:app

By default uvicorn kills a worker that doesn't answer for 5 seconds, as one may that is still importing its libraries.
The environment has the same options as the command line. Without SERVICE_MODEL each worker loads SmolLM2 for itself.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
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
    options = parse_options(sys.argv[1:])
    uvicorn.run(create_app(options), port=options.port)


def parse_options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Route messages, and improve while running.")

    def add(name: str, variable: str, default: Any, meaning: str, kind: Callable[[str], Any] = str) -> None:
        value = os.environ.get(variable, default)
        parser.add_argument(name, default=value, type=kind, help=f"{meaning}; by default the value of {variable}")

    add("--model", "SERVICE_MODEL", None, "a model, named as in DSPy, or else SmolLM2-135M on this machine")
    add("--api-base", "SERVICE_API_BASE", None, "the address of the model's API, if it is not the provider's own")
    add("--store", "SERVICE_STORE", Path("service.db"), "where to keep the run and its versions", Path)
    add("--steps", "SERVICE_STEPS", 8, "how many steps the optimization takes", int)
    parser.add_argument("--port", type=int, default=8000, help="a port of 127.0.0.1; 0 takes any free one")
    return parser.parse_args(arguments)


@contextmanager
def model(options: argparse.Namespace) -> Generator[tuple[dspy.LM, dspy.Adapter]]:
    """Yield the LM to use, and an adapter whose format it can follow."""
    if options.model is not None:
        base: dict[str, Any] = {"api_base": options.api_base, "api_key": "none"} if options.api_base else {}
        yield dspy.LM(options.model, **base), dspy.ChatAdapter()
        return
    with serve() as address:
        yield local_lm(address), LineAdapter()


def optimization(options: argparse.Namespace) -> OptimizerConfig:
    trainset, _ = messages()
    return OptimizerConfig(
        student=router(),
        metric=same_topic,
        trainset=trainset,
        store=options.store,
        policy="dspy",  # Scores programs on the same messages, so that they can be compared before the end.
        strategies=[AppendADemo()],
        bsize=32,
        num_candidates=4,
        max_steps=options.steps,
        max_demos=8,
        max_concurrency=8,
        publish="best",
        channel=CHANNEL,
    )


def create_app(options: argparse.Namespace) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        live = LiveProgram(router(), store=options.store, channel=CHANNEL)
        with closing(live), model(options) as (lm, adapter):
            dspy.configure(lm=lm, adapter=adapter)
            async with Optimizer.start(optimization(options), standby=True) as optimizer:
                app.state.live, app.state.optimizer = live, optimizer
                yield

    app = FastAPI(title="Message router", lifespan=lifespan)

    @app.post("/route")
    async def route(message: Message, user: str | None = Header(default=None)) -> dict[str, Any]:
        """Route a message. A user stays on one version while a canary runs."""
        live: LiveProgram = app.state.live
        with live.call(key=user) as call:
            prediction = await live.acall(message=message.message)
        return {"topic": prediction.topic, "version": call.version, "call": call.id}

    @app.post("/feedback", status_code=204)
    async def feedback(feedback: Feedback) -> None:
        """Take the score of an answer. Scores decide about a canary."""
        try:
            app.state.live.report(feedback.score, feedback.call)
        except (ConfigError, UnknownCallError) as error:
            raise HTTPException(422, str(error)) from error

    @app.get("/status")
    async def status() -> dict[str, Any]:
        optimizer: Optimizer = app.state.optimizer
        run = await optimizer.status()
        return {
            "worker": os.getpid(),
            "role": optimizer.role,
            "run": run.run_id,
            "status": run.status,
            "steps": run.steps_closed,
            "rollouts": run.rollouts,
            "version": app.state.live.version,
            "versions": await versions(options.store),
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


app = create_app(parse_options([]))

if __name__ == "__main__":
    main()
