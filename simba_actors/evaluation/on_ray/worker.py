"""A worker: an actor of Ray that runs many rollouts at a time with the executor's own code."""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import os
import platform
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast

import dspy

from simba_actors.errors import ConfigError
from simba_actors.evaluation.executor import LocalExecutor, RolloutTask
from simba_actors.evaluation.on_ray.leases import LeasingGovernor
from simba_actors.evaluation.on_ray.messages import (
    Cancel,
    Ended,
    FromWorker,
    Hello,
    Raised,
    Reply,
    Run,
    SentError,
    ToWorker,
    TryMetric,
    remember,
    sent,
)
from simba_actors.evaluation.on_ray.travel import MADE, Parts, unpacked
from simba_actors.lm.governor import Caller
from simba_actors.lm.secrets import Secrets
from simba_actors.programs import Configuration, ConfigurationSpace
from simba_actors.runtime.threads import Threads
from simba_actors.search.rollout import STUDENT_LM, Trajectory

R = TypeVar("R")

Setup: TypeAlias = Callable[[], Mapping[str, Any] | None] | str | None
"""A function, or "module:function", that a worker calls first. See `RayExecutor.setup`."""

HEARTBEAT = 5.0
"""Seconds after which a worker without news says so."""

ORPHANED_AFTER = 60.0
"""Seconds without a word from the optimizer's process after which a worker ends itself."""


class Worker:
    """The actor. Its methods run on Ray's event loop; rollouts have a loop and a thread of their own.

    So a student that blocks its loop does not keep messages waiting, and the loop is asyncio's own, as in the local
    executor, where Ray's may be uvloop. `prepare` and `begin` are called first, in this order.
    """

    _outbox: Outbox
    _rollouts: Rollouts

    def __init__(self) -> None:
        self._thread = RolloutThread()
        self._made: Mapping[str, Any] = {}
        self._heard = time.monotonic()
        self._sent = 0.0

    async def prepare(self, setup: Setup) -> Hello | SentError:
        """Call `setup` and return what this worker is, or why it can't work."""
        try:
            self._made = await asyncio.wrap_future(self._thread.submit(lambda: made_by(setup)))
        except Exception as error:  # noqa: BLE001 - raised in the optimizer's process
            return sent(error, Secrets())
        return Hello(os.getpid(), platform.node(), versions(), tuple(self._made))

    async def begin(self, blob: bytes) -> SentError | None:
        """Take the parts of the run. Return why they can't be used, if so."""
        outbox = self._outbox = Outbox(asyncio.get_running_loop())

        def begin() -> Rollouts:
            return Rollouts(unpacked(blob).completed(self._made), outbox.send)

        try:
            self._rollouts = await asyncio.wrap_future(self._thread.submit(begin))
        except Exception as error:  # noqa: BLE001 - raised in the optimizer's process
            return sent(error, Secrets())
        self._heard = time.monotonic()
        threading.Thread(target=self._end_if_orphaned, name="simba_actors orphan watch", daemon=True).start()
        return None

    async def exchange(self, messages: list[ToWorker]) -> list[FromWorker]:
        """Take messages, and return those that wait to be sent."""
        self._heard = time.monotonic()
        rest = [each for each in messages if not (isinstance(each, Reply) and self._rollouts.settle_blocking(each))]
        if rest:
            self._thread.loop.call_soon_threadsafe(self._rollouts.take, rest)
        return self._take()

    async def collect(self, pace: float) -> list[FromWorker]:
        """Wait for messages and return them. After `HEARTBEAT` seconds without any, return none.

        A batch costs as much as a message, so messages are collected until twice `pace` seconds after the last batch.
        Before that, most leave with an `exchange`: there is one every `pace` seconds where rollouts follow each other.
        """
        self._heard = time.monotonic()
        try:
            async with asyncio.timeout(HEARTBEAT):
                await self._outbox.filled()
                while (early := self._sent + 2 * pace - time.monotonic()) > 0:
                    await asyncio.sleep(early)
                    await self._outbox.filled()  # Another batch may have taken them.
        except TimeoutError:
            return []
        return self._take()

    def _take(self) -> list[FromWorker]:
        self._heard = self._sent = time.monotonic()
        return self._outbox.take()

    def _end_if_orphaned(self) -> None:
        """End this process once the optimizer's is gone. Ray does so too, unless it is gone itself."""
        while time.monotonic() - self._heard < ORPHANED_AFTER:
            time.sleep(ORPHANED_AFTER / 10)
        os._exit(1)


class RolloutThread:
    """A thread with an event loop, for the code of the user."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, name="simba_actors rollouts", daemon=True).start()

    def submit(self, call: Callable[[], R]) -> Future[R]:
        """Return a future for what `call()` returns on the loop."""
        answer: Future[R] = Future()
        self.loop.call_soon_threadsafe(_settle, answer, call)
        return answer

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()


def check_student(student: dspy.Module, space: ConfigurationSpace) -> None:
    """Raise ConfigError if a student lacks predictors of the run's space: `setup` has made another program."""
    names = {name for name, _ in cast("list[tuple[str, Any]]", student.named_predictors())}
    missing = sorted(set(space.predictors) - names)
    if missing:
        raise ConfigError(
            f"RayExecutor(setup=…): its student has the predictors {sorted(names)}, and lacks {missing} of the student "
            "in OptimizerConfig: make the same program"
        )


def _settle(answer: Future[R], call: Callable[[], R]) -> None:
    try:
        answer.set_result(call())
    except BaseException as error:  # noqa: BLE001 - raised where the answer is awaited
        answer.set_exception(error if isinstance(error, Exception) else RuntimeError(f"{error!r} was not caught"))


class Outbox:
    """Messages from any thread, taken on one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._messages: deque[FromWorker] = deque()
        self._filled = asyncio.Event()
        self._is_notified = False

    def send(self, message: FromWorker) -> None:
        """Add a message."""
        self._messages.append(message)
        if not self._is_notified:
            self._is_notified = True
            self._loop.call_soon_threadsafe(self._filled.set)

    async def filled(self) -> None:
        """Wait until there are messages."""
        while not self._messages:
            await self._filled.wait()
            if not self._messages:
                self._filled.clear()

    def take(self) -> list[FromWorker]:
        """Return all messages, oldest first."""
        self._is_notified = False
        self._filled.clear()
        taken: list[FromWorker] = []
        while self._messages:
            taken.append(self._messages.popleft())
        return taken


class Rollouts:
    """The rollouts of a worker, on its loop."""

    def __init__(self, parts: Parts, send: Callable[[FromWorker], None]) -> None:
        self._send = send
        self._governor = LeasingGovernor(send)
        self._executor = self._made_executor(parts)
        self._tasks: dict[int, asyncio.Task[Trajectory | None]] = {}
        self._configurations: dict[str, Configuration] = {}

    def _made_executor(self, parts: Parts) -> LocalExecutor:
        for name, part in (("student", parts.student), ("metric", parts.metric), ("lm", parts.lms.get(STUDENT_LM))):
            if part is None:
                raise ConfigError(f"setup made the {name} in another worker, and not in this one: make it in each")
        check_student(cast("dspy.Module", parts.student), parts.space)
        caller = Caller(before_blocking_call=self._governor.count_blocking_call, on_answer=self._governor.report)
        with dspy.context(**dict(parts.settings)):
            return LocalExecutor(
                student=cast("dspy.Module", parts.student),
                space=parts.space,
                examples=parts.examples,
                metric=cast("Callable[..., Any]", parts.metric),
                lms=parts.lms,
                governor=self._governor,
                caller=caller,
                threads=Threads(),
                objectives=parts.objectives,
                rollout_timeout=parts.rollout_timeout,
                on_metric_error=parts.on_metric_error,
            )

    def settle_blocking(self, reply: Reply) -> bool:
        """Take a reply that a thread waits for. Return whether it is one. Called in any thread."""
        return self._governor.settle_blocking(reply)

    def take(self, messages: list[ToWorker]) -> None:
        """Do what messages call for."""
        for message in messages:
            match message:
                case Reply():
                    self._governor.settle(message)
                case Cancel(number=number):
                    if number in self._tasks:
                        self._tasks[number].cancel()
                case Run(number=number):
                    self._start(number, self._executor.run(self._task(message)))
                case TryMetric(number=number):
                    self._start(number, self._executor.try_metric())

    def _start(self, number: int, work: Coroutine[Any, Any, Trajectory | None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[number] = task
        task.add_done_callback(partial(self._ended, number))

    def _ended(self, number: int, task: asyncio.Task[Trajectory | None]) -> None:
        del self._tasks[number]
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._send(Raised(number, sent(error, self._governor.secrets)))
        else:
            self._send(Ended(number, task.result()))

    def _task(self, message: Run) -> RolloutTask:
        if message.configuration is not None:
            remember(self._configurations, message.digest, message.configuration)
        configuration = self._configurations[message.digest]
        return RolloutTask(configuration, message.example, message.model, message.split)


def versions() -> dict[str, str]:
    """Return the versions that must be the same in the optimizer's process and in workers."""
    packages = ("simba_actors", "dspy", "cloudpickle")
    return {
        "Python": f"{platform.python_version_tuple()[0]}.{platform.python_version_tuple()[1]}",
        **{package: _version(package) for package in packages},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def made_by(setup: Setup) -> Mapping[str, Any]:
    """Return the parts that `setup` makes, by their names in OptimizerConfig."""
    if isinstance(setup, str):
        module, _, function = setup.partition(":")
        setup = cast("Callable[[], Any]", getattr(importlib.import_module(module), function))
    made = setup() if setup is not None else None
    if made is None:
        return {}
    if not isinstance(cast("Any", made), Mapping) or not set(made) <= set(MADE):
        raise ConfigError(f"setup() returned {made!r:.80}: must be a dict with some of {', '.join(MADE)}, or None")
    return made
