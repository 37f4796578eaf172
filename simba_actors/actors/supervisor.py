"""Supervisor: a process that starts others, and starts them again when they fail."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from simba_actors.actors.child_spec import ChildSpec
from simba_actors.actors.errors import (
    ActorError,
    AlreadyPresentError,
    AlreadyStartedError,
    BadSpecError,
    ChildRestartingError,
    ChildRunningError,
    NotAChildError,
    StartFailedError,
)
from simba_actors.actors.exits import Exit, ExitReason, describe, is_abnormal
from simba_actors.actors.gen_server import GenServer
from simba_actors.actors.process import ExitSignal, Process
from simba_actors.actors.ref import Address, Call, From, Ref
from simba_actors.actors.restarts import RestartIntensity
from simba_actors.actors.returns import CallReturn, CastReturn, InitReturn, Reply, Stop
from simba_actors.actors.shutting_down import shut_down

Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]
AutoShutdown: TypeAlias = Literal["never", "any_significant", "all_significant"]


@dataclass(slots=True)
class Child:
    """A child's place: its spec, its process while it has one, and whether it is to have one again."""

    spec: ChildSpec
    process: Process | None = None
    restarting: bool = False
    restarts: int = 0

    @property
    def running(self) -> bool:
        return self.process is not None


@dataclass(frozen=True, slots=True)
class ChildInfo:
    """What `which_children` tells of one child."""

    id: Hashable
    ref: Ref | None
    restarting: bool
    restarts: int
    type: Literal["worker", "supervisor"]


@dataclass(frozen=True, slots=True)
class SupervisorEvent:
    """What a supervisor's `on_event` hears: a child exited, or was started again for the `restarts`th time."""

    kind: Literal["exited", "restarted"]
    child: Hashable
    reason: ExitReason
    restarts: int


@dataclass(frozen=True, slots=True)
class StartChild(Call["Ref | ActorError | None"]):
    spec: ChildSpec


@dataclass(frozen=True, slots=True)
class TerminateChild(Call["ActorError | None"]):
    id: Hashable


@dataclass(frozen=True, slots=True)
class RestartChild(Call["Ref | ActorError | None"]):
    id: Hashable


@dataclass(frozen=True, slots=True)
class DeleteChild(Call["ActorError | None"]):
    id: Hashable


@dataclass(frozen=True, slots=True)
class WhichChildren(Call[list[ChildInfo]]):
    pass


@dataclass(frozen=True, slots=True)
class TryAgain:
    """To the supervisor itself: a restart failed or was put off."""

    child: Child = field(compare=False)


async def start_child(supervisor: Address, spec: ChildSpec) -> Ref | None:
    """Adds a child and starts it; None if its `init` said Ignore.

    Raises:
        AlreadyStartedError, AlreadyPresentError: There is a child of that id, running or not.
        StartFailedError: It did not start, and was not added.
    """
    return _or_raise(await supervisor.call(StartChild(spec), timeout=None))


async def terminate_child(supervisor: Address, child_id: Hashable) -> None:
    """Shuts a child down and keeps its spec (a temporary child's is dropped). Fine if it is not running.

    Raises:
        NotAChildError: There is no child of that id.
    """
    _or_raise(await supervisor.call(TerminateChild(child_id), timeout=None))


async def restart_child(supervisor: Address, child_id: Hashable) -> Ref | None:
    """Starts a child that is not running.

    Raises:
        NotAChildError, ChildRunningError, ChildRestartingError: It can't be restarted now.
        StartFailedError: It did not start.
    """
    return _or_raise(await supervisor.call(RestartChild(child_id), timeout=None))


async def delete_child(supervisor: Address, child_id: Hashable) -> None:
    """Forgets a child that is not running.

    Raises:
        NotAChildError, ChildRunningError, ChildRestartingError: It can't be deleted now.
    """
    _or_raise(await supervisor.call(DeleteChild(child_id), timeout=None))


async def which_children(supervisor: Address) -> list[ChildInfo]:
    """The children, in order of their start."""
    return await supervisor.call(WhichChildren(), timeout=None)


def _or_raise(answer: Any) -> Any:
    if isinstance(answer, ActorError):
        raise answer
    return answer


class Supervisor(GenServer[list[Child]]):
    """Starts children in order, restarts them as their specs say, and stops them in reverse.

        supervisor = await Supervisor.start([ChildSpec("a", start_a), ChildSpec("b", start_b)], strategy="rest_for_one")

    Args of `start`:
        children: The specs, in order of start.
        strategy: When a child fails, restart that one ("one_for_one"), all ("one_for_all"), or it and those started
            after it ("rest_for_one").
        max_restarts, max_seconds: More restarts than that within that time, and the supervisor stops its children and
            exits with `Exit("shutdown", …)`, whose detail names the child and why it failed.
        auto_shutdown: Whether to shut down by itself when "any_significant" or "all_significant" children have ended.
        on_event: Called with a `SupervisorEvent` when a child exits by itself and when it is back.

    Raises (from `start`):
        BadSpecError: A flag or spec makes no sense, or two have one id. Nothing was started.
        StartFailedError: A child did not start; those before it were stopped in reverse order.
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
            raise BadSpecError(f"strategy={strategy!r} is none of one_for_one, one_for_all, rest_for_one")
        if auto_shutdown not in ("never", "any_significant", "all_significant"):
            raise BadSpecError(f"auto_shutdown={auto_shutdown!r} is none of never, any_significant, all_significant")
        check_intensity(max_restarts, max_seconds)
        ids = [check_spec(spec).id for spec in children]
        for duplicate in (child_id for child_id in ids if ids.count(child_id) > 1):
            raise BadSpecError(f"two children have the id {duplicate!r}")
        self._specs = list(children)
        self._strategy = strategy
        self._auto_shutdown: AutoShutdown = auto_shutdown
        self._on_event = on_event
        self._intensity = RestartIntensity(max_restarts, max_seconds)
        for spec in children:
            self._check_significance(spec)

    async def init(self) -> InitReturn:
        self.state = []
        for spec in self._specs:
            child = Child(spec)
            try:
                await self._start(child)
            except Exception as error:
                await self._stop_all(self.state)
                raise StartFailedError(f"child {spec.id!r} did not start: {describe(error)}", error) from error
            if child.running or spec.restart != "temporary":
                self.state.append(child)
        return None

    async def terminate(self, reason: ExitReason) -> None:
        await self._stop_all(self.state)

    async def handle_call(self, message: Any, sender: From[Any]) -> CallReturn:
        try:
            match message:
                case StartChild(spec=spec):
                    return Reply(await self._add(spec))
                case TerminateChild(id=child_id):
                    return Reply(await self._terminate(self._find(child_id)))
                case RestartChild(id=child_id):
                    return Reply(await self._start_again(self._stopped(child_id)))
                case DeleteChild(id=child_id):
                    return Reply(self.state.remove(self._stopped(child_id)))
                case WhichChildren():
                    return Reply([_info(child) for child in self.state])
                case _:
                    return await super().handle_call(message, sender)
        except ActorError as error:
            return Reply(error)

    async def handle_info(self, message: Any) -> CastReturn:
        match message:
            case ExitSignal(process=process, reason=reason):
                child = next((child for child in self.state if child.process is process), None)
                return None if child is None else await self._exited(child, reason)
            case TryAgain(child=child) if child.restarting:
                return await self._restart(child, Exit("restart failed"))
            case TryAgain():
                return None
            case _:
                return await super().handle_info(message)

    def format_state(self) -> str:
        return ", ".join(f"{child.spec.id!r}: {_info(child).ref}" for child in self.state)

    async def _add(self, spec: ChildSpec) -> Ref | None:
        check_spec(spec)
        self._check_significance(spec)
        for other in self.state:
            if other.spec.id == spec.id and other.process is not None:
                raise AlreadyStartedError(f"child {spec.id!r} is running", Ref(other.process))
            if other.spec.id == spec.id:
                raise AlreadyPresentError(f"child {spec.id!r} is there, but not running: restart or delete it")
        child = Child(spec)
        ref = await self._start_again(child)
        if child.running or spec.restart != "temporary":
            self.state.append(child)
        return ref

    def _check_significance(self, spec: ChildSpec) -> None:
        if spec.significant and self._auto_shutdown == "never":
            raise BadSpecError(f"child {spec.id!r} is significant, but the supervisor has auto_shutdown='never'")

    async def _terminate(self, child: Child) -> None:
        child.restarting = False
        await self._stop(child)
        if child.spec.restart == "temporary":
            self.state.remove(child)

    async def _start_again(self, child: Child) -> Ref | None:
        try:
            await self._start(child)
        except Exception as error:
            raise StartFailedError(f"child {child.spec.id!r} did not start: {describe(error)}", error) from error
        return None if child.process is None else Ref(child.process)

    def _find(self, child_id: Hashable) -> Child:
        for child in self.state:
            if child.spec.id == child_id:
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
        self._tell("exited", child, reason)
        restart = child.spec.restart
        if restart == "permanent" or (restart == "transient" and is_abnormal(reason)):
            return await self._restart(child, reason)
        if restart == "temporary":
            self.state.remove(child)
        return self._after_the_end_of(child)

    def _after_the_end_of(self, child: Child) -> CastReturn:
        if not child.spec.significant:
            return None
        others_left = any(other.spec.significant and other.running for other in self.state)
        if self._auto_shutdown == "any_significant" or not others_left:
            return Stop(Exit("shutdown", f"significant child {child.spec.id!r} ended"))
        return None

    async def _restart(self, child: Child, reason: ExitReason) -> CastReturn:
        loop = self._process.loop
        if not self._intensity.allows(loop.time()):
            detail = f"child {child.spec.id!r} failed too often: {describe(reason)}"
            return Stop(Exit("shutdown", TooManyRestartsError(detail, child.spec.id, reason)))
        child.restarts += 1
        if child.spec.backoff is not None and not child.restarting:
            child.restarting = True
            loop.call_later(child.spec.backoff(child.restarts), self._try_again, child)
            return None
        await self._restart_group(child, reason)
        return None

    def _try_again(self, child: Child) -> None:
        self.ref.send(TryAgain(child))

    async def _restart_group(self, child: Child, reason: ExitReason) -> None:
        group = self._group(child)
        others = [other for other in group if other is not child]
        await self._stop_all(others)
        self.state = [c for c in self.state if c not in others or c.spec.restart != "temporary"]
        to_start = [c for c in group if c in self.state and (c is child or c.restarting)]
        for place, member in enumerate(to_start):
            try:
                await self._start(member)
            except Exception:  # noqa: BLE001 - a restart that fails counts as a restart, and is tried again
                if self._strategy == "one_for_all":
                    await self._stop_all(to_start[:place])
                member.restarting = True
                self._try_again(member)
                return
            self._tell("restarted", member, reason)

    def _group(self, child: Child) -> list[Child]:
        """Who is restarted with `child`, itself included, in order of start."""
        if self._strategy == "one_for_one":
            return [child]
        if self._strategy == "one_for_all":
            return list(self.state)
        return self.state[self.state.index(child) :]

    async def _start(self, child: Child) -> None:
        ref = await child.spec.start()
        child.restarting = False
        if ref is None:
            return
        process = ref.target  # It may have started well and crashed since; its exit signal then tells.
        process.parent = self._process
        process.restarts = child.restarts
        self._process.link(process)
        child.process = process

    async def _stop(self, child: Child) -> None:
        process, child.process = child.process, None
        if process is not None:
            await shut_down(process, self._process, child.spec.patience)

    async def _stop_all(self, children: Sequence[Child]) -> None:
        """In reverse order. Those that ran are marked to be started again with their group."""
        for child in reversed(children):
            child.restarting = child.restarting or child.running
            await self._stop(child)

    def _tell(self, kind: Literal["exited", "restarted"], child: Child, reason: ExitReason) -> None:
        if self._on_event is not None:
            self._on_event(SupervisorEvent(kind, child.spec.id, reason, child.restarts))


class TooManyRestartsError(ActorError):
    """Why a supervisor gave up: `child` failed more often than its restart intensity allows, last for `reason`."""

    def __init__(self, message: str, child: Hashable, reason: ExitReason) -> None:
        super().__init__(message)
        self.child = child
        self.reason = reason


def check_spec(spec: object) -> ChildSpec:
    if not isinstance(spec, ChildSpec):
        raise BadSpecError(f"a child is given by a ChildSpec, not by {spec!r}")
    return spec


def check_intensity(max_restarts: object, max_seconds: object) -> None:
    if not isinstance(max_restarts, int) or isinstance(max_restarts, bool) or max_restarts < 0:
        raise BadSpecError(f"max_restarts={max_restarts!r} is no whole number of at least 0")
    if not isinstance(max_seconds, int | float) or isinstance(max_seconds, bool) or max_seconds <= 0:
        raise BadSpecError(f"max_seconds={max_seconds!r} is no number above 0")


def _info(child: Child) -> ChildInfo:
    ref = None if child.process is None else Ref(child.process)
    return ChildInfo(child.spec.id, ref, child.restarting, child.restarts, child.spec.type)
