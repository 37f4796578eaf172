"""Live programs: modules that always run what was published last to a channel."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import dspy

from simba_actors.class_help import suggests_names
from simba_actors.errors import ConfigError, PublicationError
from simba_actors.live.calls import LiveCall
from simba_actors.live.recording import RecordingOptions
from simba_actors.live.router import STUDENT_VERSION, Callables, LiveState, Router
from simba_actors.live.running import Runner
from simba_actors.live.wire import Remote, is_url
from simba_actors.programs import ConfigurationSpace
from simba_actors.programs.entry_points import runs_async, sync_call
from simba_actors.publishing.channel import check_channel
from simba_actors.store.opening import checked_path
from simba_actors.transport.security import TLS


class LiveModule(dspy.Module):
    """Base class of LiveProgram and VariableAware: a module that runs what was published last to its channel.

    A copy, by `deepcopy` or pickle, follows no channel. It is an ordinary module, which can be changed, compiled and
    optimized.
    """

    _router: Router | None = None
    _runner: Runner | None = None

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name not in ("_router", "_runner")}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._router is None or self._runner is None:
            return super().__call__(*args, **kwargs)
        self._router.sync()
        return self._runner.run(self._router, args, kwargs)

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        if self._router is None or self._runner is None:
            return await super().acall(*args, **kwargs)
        await self._router.sync_on_loop()
        return await self._runner.run_on_loop(self._router, args, kwargs)

    @property
    def version(self) -> int:
        """Version of the channel that was last read; 0 is the student itself."""
        return STUDENT_VERSION if self._router is None else self._router.routing_table.current.version

    @property
    def state(self) -> LiveState:
        """READY if the channel's current version runs, STALE if the last known one does, ERROR if the student does."""
        router = self._followed()
        router.sync()
        return router.state

    def sync_variables(self) -> None:
        """Switch to what was published last. Every run does so when it begins, and then keeps its version."""
        if self._router is not None:
            self._router.sync()

    def set_lm(self, lm: dspy.BaseLM) -> None:
        """Set the LM of every predictor, except where a version chooses the LM; see `ConfigurationSpace`."""
        super().set_lm(lm)
        if self._router is not None:
            self._router.set_lm(lm)

    def save(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """Save the version that is served, as `dspy.Module.save` saves a module.

        With `save_program=True`, what is loaded is a copy that follows no channel.
        """
        if self._router is None:
            super().save(path, *args, **kwargs)
            return
        self._router.sync()
        self._as_module(self._router.routing_table.current.program).save(path, *args, **kwargs)

    def call(self, key: str | None = None) -> LiveCall:
        """Return a context manager for runs that share one version and are scored together.

            with live.call(key=user_id) as call:
                prediction = await live.acall(question="…")
            live.report(1.0, call.id)

        While there is a canary, calls with the same `key` get the same version. Without a key the version is drawn at
        random. If the block is opened in one thread and the program runs in another, run it through the call:
        `await call.acall(question="…")`.
        """
        return LiveCall(self, self._followed(), key)

    def report(self, score: float, call_id: str) -> None:
        """Report the score of a call, higher is better. Works from any process, also after a restart. Never waits.

        While there is a canary, the scores of calls decide about it. A second score of the same call does not count.

        Ids are not signed: anyone who can report scores can make one up, and so decide about a canary. If scores come
        from users, accept only ids that were given to the user who sends them.

        Raises:
            UnknownCallError: `call_id` is not the id of a call.
            ConfigError: `score` is not a number between -1e18 and 1e18.
        """
        self._followed()
        if self._runner is not None:
            self._runner.recorder.report(score, call_id)

    def close(self) -> None:
        """Wait until all scores are stored, and close the store. The next run opens it again."""
        if self._router is not None and self._runner is not None:
            self._runner.recorder.close()
            self._router.close()

    def _followed(self) -> Router:
        if self._router is None:
            raise PublicationError(
                f"this {type(self).__name__} follows no channel, since it is a copy or `follow` was never called: use "
                "the live program itself, or call follow(store, channel) first"
            )
        return self._router

    def _as_module(self, program: dspy.Module) -> dspy.Module:
        """Return `program`, a version's, as a module of this class that follows no channel."""
        return program


def _followed_store(
    store: str | Path, channel: str, token: str | None, tls: TLS | None, cache: str | Path | None
) -> str | Path | Remote:
    if is_url(store):
        check_channel(channel)
        return Remote(str(store), channel, token, tls, None if cache is None else checked_path(cache))
    if token is not None or tls is not None or cache is not None:
        raise ConfigError(f"store={store!r:.80}: token, tls and cache are for servers; leave them out for a file")
    return store


class _InitSignature:
    """Shows the arguments of `__init__` as the class's signature, which DSPy's metaclass hides from `help`."""

    def __get__(self, instance: object, owner: type) -> inspect.Signature:
        if instance is not None:
            raise AttributeError("__signature__")
        signature = inspect.signature(owner.__init__)
        arguments = list(signature.parameters.values())[1:]
        return signature.replace(parameters=arguments, return_annotation=inspect.Signature.empty)


@suggests_names()
class LiveProgram(LiveModule):
    """Runs `student` with the newest configuration that was published to a channel.

        live = LiveProgram(student, store="simba.db", channel="support-bot")
        prediction = await live.acall(question="…")     # or live(question="…")

    The next call sees what this process has published, and within a second what another process has. A run keeps the
    version that it began with. If the store is missing, empty or damaged, the student runs as it is, or the version
    that was read last keeps running, and a warning is logged once. No call fails because of the store, and no call
    waits for an optimizer.

    A copy, as made by `deepcopy`, pickle and DSPy's optimizers, follows no channel: it runs its own student as it is.
    `save` saves what is served. A live program may be used in many threads, and in processes that are forked after it
    was made.

    DSPy itself keeps the newest 10,000 prompts and predictor calls of a process, with the programs that made them. In a
    service, `dspy.configure(disable_history=True, max_trace_size=0)` saves that memory. Optimizers and live programs do
    not depend on these settings.

    Args:
        student: The program to run. Never changed. If its class defines no `aforward`, `acall` runs it in a thread.
            Versions are copies of it, made when they are first served; `live.set_lm(lm)` sets the LM of all of them.
        store: The path of the store's file, which need not exist yet, or the address of a server that serves the store
            on another host: "https://host/simba" for `dashboard(store, channels=True)`, or "grpcs://host:7001" for
            `simba-actors serve --grpc-port 7001`. Such a channel is followed in the background. Only the first call
            waits for the network, for up to 2 seconds.
        channel: The channel to follow, which need not exist yet.
        space: What published configurations may contain: the run's space, if the run chose LM settings too.
        metric: `metric(example, prediction)`, a plain function that scores each call in a thread, as `report` would.
            `example` has the call's inputs and no labels.
        keep_examples: Number of scored calls that the store keeps, including what users asked, as examples for later
            trainsets: a sample of the distinct ones, read by `Channel.examples`. The default, 0, keeps none. Calls with
            positional arguments are not kept.
        token: The token of the server, if it has one. Off loopback it needs https:// or grpcs://.
        tls: Certificates for https:// and grpcs://, if those of the system are not enough.
        cache: A folder that keeps what the server last served, to run after a cold start while the server is down.
            Only for servers; a file needs no cache.

    Raises:
        NoPredictorsError: The student has nothing to configure.
        ConfigError: A value is out of range; the message names it.
    """

    __signature__ = _InitSignature()

    def __init__(
        self,
        student: dspy.Module,
        *,
        store: str | Path,
        channel: str = "default",
        space: ConfigurationSpace | None = None,
        metric: Callable[..., Any] | None = None,
        keep_examples: int = 0,
        token: str | None = None,
        tls: TLS | None = None,
        cache: str | Path | None = None,
    ) -> None:
        super().__init__()
        self.student = student
        followed = _followed_store(store, channel, token, tls, cache)
        options = RecordingOptions(metric, keep_examples)
        self._router = Router(student, followed, channel, space=space)
        self._runner = Runner(student, followed, channel, options)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the student as it is. Only copies, which follow no channel, come here."""
        return Callables.of(self.student).call(*args, **kwargs)

    async def aforward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the student as it is, in a thread if it defines no `aforward`. Only copies come here."""
        acall = Callables.of(self.student).acall
        if acall is not None:
            return await acall(*args, **kwargs)
        return await dspy.asyncify(self.student)(*args, **kwargs)

    def _as_module(self, program: dspy.Module) -> dspy.Module:
        module = cast("LiveProgram", object.__new__(type(self)))
        module.__setstate__({**self.__getstate__(), "student": program})
        return module


class VariableAware(LiveModule):
    """A base class, or a mixin, for a module of your own that follows a channel itself.

        class Bot(VariableAware):
            def __init__(self):
                super().__init__()
                self.answer = dspy.Predict("question -> answer")

            async def aforward(self, question):
                return await self.answer.acall(question=question)

        bot = Bot()
        bot.follow("simba.db", channel="support-bot")

    As with `LiveProgram`, a run keeps the version that it began with: it runs a copy of the module that is never
    changed, in a thread if `acall` is used and the class defines no `aforward`. The module itself runs until something
    is published, and while it follows no channel. A copy, such as a candidate of an optimizer, follows no channel until
    its own `follow` is called.
    """

    def follow(
        self,
        store: str | Path,
        channel: str = "default",
        *,
        space: ConfigurationSpace | None = None,
        metric: Callable[..., Any] | None = None,
        keep_examples: int = 0,
        token: str | None = None,
        tls: TLS | None = None,
        cache: str | Path | None = None,
    ) -> None:
        """Follow `channel` of `store` from the next run on. Neither need exist yet.

        The arguments are those of `LiveProgram`.

        Raises:
            NoPredictorsError: The module has nothing to configure.
            ConfigError: A value is out of range; the message names it.
        """
        followed = _followed_store(store, channel, token, tls, cache)
        options = RecordingOptions(metric, keep_examples)
        self._router = Router(self, followed, channel, space=space, as_it_is=self._as_it_is())
        self._runner = Runner(self, followed, channel, options)

    def _as_it_is(self) -> Callables:
        """Return the callables that run the module itself, whatever is published."""
        plain: Any = super(LiveModule, self)
        return Callables(sync_call(self, plain.__call__, plain.acall), plain.acall if runs_async(self) else None)
