"""Supervisors: processes that start other processes and restart them when they fail."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from simba_actors.actors.calls import From, is_duration
from simba_actors.actors.children import (
    Child,
    ChildInfo,
    ChildSpec,
    DeleteChild,
    RestartChild,
    StartChild,
    TerminateChild,
    WhichChildren,
)
from simba_actors.actors.errors import (
    ActorError,
    AlreadyPresentError,
    AlreadyStartedError,
    BadSpecError,
    ChildRestartingError,
    ChildRunningError,
    NotAChildError,
    StartFailedError,
    StartIgnoredError,
    TooManyRestartsError,
)
from simba_actors.actors.exits import Exit, ExitReason, describe, is_abnormal
from simba_actors.actors.gen_server import GenServer
from simba_actors.actors.process import ExitSignal, logger
from simba_actors.actors.ref import Ref
from simba_actors.actors.returns import CallReturn, CastReturn, InitReturn, Reply, Stop

Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]
AutoShutdown: TypeAlias = Literal["never", "any_significant", "all_significant"]


@dataclass(frozen=True, slots=True)
class SupervisorEvent:
    """Event that a supervisor passes to `on_event`."""

    kind: Literal["exited", "restarted"]
    """The change of the child's state."""
    child: Hashable
    """The child's id."""
    reason: ExitReason
    """Why it exited."""
    restarts: int
    """Number of restarts so far."""


@dataclass(frozen=True, slots=True)
class RestartFailed:
    """A message of the supervisor to itself: try again, after the messages that arrived meanwhile."""

    child: Child
    reason: ExitReason


@dataclass(frozen=True, slots=True)
class BackoffOver:
    """A message of the supervisor to itself: a delayed restart is due."""

    child: Child
    reason: ExitReason


class Supervisor(GenServer[list[Child]]):
    """Starts children in order, restarts them according to their specs, and stops them in reverse order.

    >>> import asyncio
    >>> from simba_actors.actors import ChildSpec, GenServer, Supervisor, which_children
    >>> class Logger(GenServer[None]):
    ...     async def init(self):
    ...         print("logger up")
    >>> class Worker(GenServer[None]):
    ...     async def init(self):
    ...         print("worker up")
    >>> async def main():
    ...     children = [ChildSpec("logger", Logger.start_link), ChildSpec("worker", Worker.start_link)]
    ...     supervisor = await Supervisor.start(children, strategy="rest_for_one")
    ...     logger, worker = await which_children(supervisor)
    ...     logger.ref.kill()  # The worker was started after the logger, so it is restarted too.
    ...     await which_children(supervisor)
    ...     await supervisor.stop()
    >>> asyncio.run(main())
    logger up
    worker up
    logger up
    worker up

    To restart several children, the supervisor stops them in reverse order and starts them in order. That includes
    children that had exited or were terminated before. Temporary children are removed instead. A restart that fails
    counts as a restart and is tried again. The supervisor handles no messages while it starts or stops a child, but it
    does so between two attempts.

    If a child fails at the first start, the whole start fails. A supervisor can be a child of another:
    `ChildSpec("sub", partial(Supervisor.start_link, children), type="supervisor")`.

    Args of `start`:
        children: The specs, in start order.
        strategy: Which children to restart when one fails: only that one ("one_for_one"), all ("one_for_all"), or that
            one and those started after it ("rest_for_one").
        max_restarts, max_seconds: With more than `max_restarts` restarts (3) within `max_seconds` (5.0), the supervisor
            stops its children and exits with `Exit("shutdown", TooManyRestartsError(…))`.
        auto_shutdown: Whether the supervisor shuts down when "any_significant" or "all_significant" children have
            exited, or "never".
        on_event: Called with a `SupervisorEvent` when a child exits on its own and when it has been restarted.

    Raises (from `start`):
        BadSpecError: A flag or spec is invalid, or two children have the same id. Nothing was started.
        StartFailedError: A child did not start. The children before it were stopped in reverse order.
    """

    trap_exit = True

    def __init__(
        self,
        children: Sequence[ChildSpec],
        *,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        auto_shutdown: AutoShutdown = "never",
        on_event: Callable[[SupervisorEvent], None] | None = None,
    ) -> None:
        if strategy not in ("one_for_one", "one_for_all", "rest_for_one"):
            raise BadSpecError(f"strategy={strategy!r} must be one_for_one, one_for_all or rest_for_one")
        if auto_shutdown not in ("never", "any_significant", "all_significant"):
            raise BadSpecError(f"auto_shutdown={auto_shutdown!r} must be never, any_significant or all_significant")
        self._intensity = RestartIntensity(max_restarts, max_seconds)
        self._strategy: Strategy = strategy
        self._auto_shutdown: AutoShutdown = auto_shutdown
        self._on_event = on_event
        self._specs = [self._checked(spec) for spec in children]
        ids: set[Hashable] = set()
        for spec in self._specs:
            if spec.id in ids:
                raise BadSpecError(f"two children have the id {spec.id!r}")
            ids.add(spec.id)

    async def init(self) -> InitReturn:
        self.state = []
        try:
            for spec in self._specs:
                with suppress(StartIgnoredError):
                    await self._start_new(spec)
        except BaseException:
            await self._stop_all(self.state)
            raise
        return None

    async def terminate(self, reason: ExitReason) -> None:
        for child in self.state:
            child.stop_restarting()
        await self._stop_all(self.state)

    async def handle_call(self, message: Any, sender: From[Any]) -> CallReturn:
        match message:
            case StartChild() | TerminateChild() | RestartChild() | DeleteChild():
                try:
                    return Reply(await self._manage(message))
                except ActorError as error:
                    return Reply(error)
            case WhichChildren():
                return Reply([_info(child) for child in self.state])
            case _:
                return await super().handle_call(message, sender)

    async def handle_info(self, message: Any) -> CastReturn:
        match message:
            case ExitSignal(process=process, reason=reason):
                child = next((child for child in self.state if child.process is process), None)
                return None if child is None else await self._exited(child, reason)
            case RestartFailed(child=child, reason=reason):
                return await self._restart(child, reason) if child.restarting else None
            case BackoffOver(child=child, reason=reason):
                return await self._restart_group(child, reason) if child.restarting else None
            case _:
                return await super().handle_info(message)

    def format_state(self) -> str:
        return ", ".join(f"{child.spec.id!r}: {child.ref}" for child in self.state)

    async def _manage(self, message: StartChild | TerminateChild | RestartChild | DeleteChild) -> Ref | None:
        match message:
            case StartChild(spec=spec):
                return await self._add(spec)
            case TerminateChild(id=child_id):
                return await self._terminate(self._find(child_id))
            case RestartChild(id=child_id):
                return await self._start_again(self._stopped(child_id))
            case DeleteChild(id=child_id):
                return self.state.remove(self._stopped(child_id))

    async def _add(self, spec: ChildSpec) -> Ref:
        self._checked(spec)
        for other in self.state:
            if other.spec.id == spec.id and other.process is not None:
                raise AlreadyStartedError(f"child {spec.id!r} is already running", Ref(other.process))
            if other.spec.id == spec.id:
                raise AlreadyPresentError(f"child {spec.id!r} is stopped: restart or delete it")
        return await self._start_new(spec)

    async def _start_new(self, spec: ChildSpec) -> Ref:
        child = Child(spec)
        try:
            ref = await self._start_again(child)
        except StartIgnoredError:
            if spec.restart != "temporary":
                self.state.append(child)
            raise
        self.state.append(child)
        return ref

    async def _terminate(self, child: Child) -> None:
        child.stop_restarting()
        await child.stop(self._process)
        if child.spec.restart == "temporary":
            self.state.remove(child)

    async def _start_again(self, child: Child) -> Ref:
        try:
            return await child.start(self._process)
        except StartIgnoredError:
            raise
        except Exception as error:
            raise StartFailedError(f"child {child.spec.id!r} did not start: {describe(error)}", error) from error

    def _checked(self, spec: object) -> ChildSpec:
        if not isinstance(spec, ChildSpec):
            raise BadSpecError(f"a child must be a ChildSpec, not {spec!r}")
        if spec.significant and self._auto_shutdown == "never":
            raise BadSpecError(f"child {spec.id!r} is significant, but the supervisor has auto_shutdown='never'")
        return spec

    def _find(self, child_id: Hashable) -> Child:
        for child in self.state:
            if child_id == child.spec.id or (isinstance(child_id, Ref) and child_id == child.ref):
                return child
        raise NotAChildError(f"there is no child {child_id!r}")

    def _stopped(self, child_id: Hashable) -> Child:
        child = self._find(child_id)
        if child.running:
            raise ChildRunningError(f"child {child_id!r} is running: terminate it first")
        if child.restarting:
            raise ChildRestartingError(f"child {child_id!r} is being restarted: terminate it first")
        return child

    async def _exited(self, child: Child, reason: ExitReason) -> CastReturn:
        child.process = None
        self._emit("exited", child, reason)
        restart = child.spec.restart
        if restart == "permanent" or (restart == "transient" and is_abnormal(reason)):
            return await self._restart(child, reason)
        if restart == "temporary":
            self.state.remove(child)
        return self._check_auto_shutdown(child)

    def _check_auto_shutdown(self, child: Child) -> CastReturn:
        if not child.spec.significant:
            return None
        others_left = any(other.spec.significant and (other.running or other.restarting) for other in self.state)
        if self._auto_shutdown == "any_significant" or not others_left:
            return Stop(Exit("shutdown", f"significant child {child.spec.id!r} exited"))
        return None

    async def _restart(self, child: Child, reason: ExitReason) -> CastReturn:
        now = self._process.loop.time()
        if not self._intensity.allows(now):
            detail = f"child {child.spec.id!r} failed too often: {describe(reason)}"
            logger.error("%s gives up: %s", self._process.name, detail)
            return Stop(Exit("shutdown", TooManyRestartsError(detail, child.spec.id, reason)))
        was_stable = not child.restarting and now - child.started > self._intensity.max_seconds
        child.consecutive_restarts = 1 if was_stable else child.consecutive_restarts + 1
        child.restarts += 1
        if child.spec.backoff is None:
            return await self._restart_group(child, reason)
        child.restarting = True
        delay = child.spec.backoff(child.consecutive_restarts)
        child.timer = self._process.loop.call_later(delay, self.ref.send, BackoffOver(child, reason))
        return None

    async def _restart_group(self, child: Child, reason: ExitReason) -> None:
        """Restart `child` and those that the strategy restarts with it. Remove temporary ones among those."""
        group = self._group(child)
        others = [other for other in group if other is not child]
        await self._stop_all(others)
        dropped = [other for other in others if other.spec.restart == "temporary"]
        self.state = [other for other in self.state if other not in dropped]
        members = [member for member in group if member not in dropped]
        for index, member in enumerate(members):
            try:
                await member.start(self._process)
            except StartIgnoredError:
                continue
            except Exception as error:  # noqa: BLE001 - a restart that fails counts as a restart and is tried again
                logger.error("%s could not restart child %r: %s", self._process.name, member.spec.id, describe(error))
                if self._strategy == "one_for_all":
                    await self._stop_all(members[:index])
                member.restarting = True
                self.ref.send(RestartFailed(member, error))
                return
            self._emit("restarted", member, reason)

    def _group(self, child: Child) -> list[Child]:
        """Return the children that are restarted when `child` fails, itself included, in start order."""
        match self._strategy:
            case "one_for_one":
                return [child]
            case "one_for_all":
                return list(self.state)
            case "rest_for_one":
                return self.state[self.state.index(child) :]

    async def _stop_all(self, children: Sequence[Child]) -> None:
        """Stop children in reverse order."""
        for child in reversed(children):
            await child.stop(self._process)

    def _emit(self, kind: Literal["exited", "restarted"], child: Child, reason: ExitReason) -> None:
        if self._on_event is None:
            return
        event = SupervisorEvent(kind, child.spec.id, reason, child.restarts)
        try:
            self._on_event(event)
        except Exception:  # noqa: BLE001 - an error of the listener must not end the children
            logger.exception("on_event of %s raised for %r", self._process.name, event)


def _info(child: Child) -> ChildInfo:
    return ChildInfo(child.spec.id, child.ref, child.restarting, child.restarts, child.spec.type)


class RestartIntensity:
    """Allows `max_restarts` restarts within any `max_seconds`.

    Raises:
        BadSpecError: `max_restarts` is not a whole number of at least 0, or `max_seconds` is not a number above 0.
    """

    def __init__(self, max_restarts: int, max_seconds: float) -> None:
        if not isinstance(max_restarts, int) or not is_duration(max_restarts):  # pyright: ignore[reportUnnecessaryIsInstance] - the caller may be untyped
            raise BadSpecError(f"max_restarts={max_restarts!r} must be a whole number of at least 0")
        if not is_duration(max_seconds) or max_seconds == 0:
            raise BadSpecError(f"max_seconds={max_seconds!r} must be a number above 0")
        self.max_restarts = max_restarts
        self.max_seconds = max_seconds
        self._times: deque[float] = deque()

    def allows(self, now: float) -> bool:
        """Count a restart at `now` and return whether it is allowed."""
        self._times.append(now)
        while self._times and self._times[0] < now - self.max_seconds:
            self._times.popleft()
        return len(self._times) <= self.max_restarts
