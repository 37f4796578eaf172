"""Recording calls of live programs: online scores, which decide about canaries, and online examples for training.

Requests only put work into queues. Slow work, such as a metric or writing the file, happens in threads that exist while
there is something to do.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast
from weakref import WeakValueDictionary

import dspy

from simba_actors.dspy_compat.predictor_names import PredictorNames
from simba_actors.errors import ConfigError, StoreError
from simba_actors.evaluation.executor import trace_steps
from simba_actors.evaluation.scoring import LARGEST_SCORE, is_score, metric_result
from simba_actors.live.background import QUEUE_SIZE, BackgroundQueue, WarnOnce
from simba_actors.live.calls import CallId
from simba_actors.live.router import BoundVersion
from simba_actors.lm.secrets import Secrets
from simba_actors.programs.values import json_fields
from simba_actors.publishing.canary import CanaryScore, record_scores, settle
from simba_actors.publishing.online_examples import OnlineExample, keep_examples
from simba_actors.publishing.publications import Publication, notify_followers
from simba_actors.runtime.forks import survive_forks
from simba_actors.runtime.logs import get_logger
from simba_actors.runtime.threads import Threads
from simba_actors.search.rollout import JSON
from simba_actors.store.connection import translate_errors
from simba_actors.store.opening import connect_for_writing

logger = get_logger(__name__)

CALLS_REMEMBERED = 1_000
"""Number of latest calls that can still become examples when their scores arrive, if examples are kept."""

RETRY_SECONDS = 1.0
"""Seconds between attempts to write a store that cannot be written."""

CLOSE_SECONDS = 30.0
"""Seconds that closing waits for scores to be stored."""

BUSY_SECONDS = 5.0
"""Seconds that a transaction waits for another writer."""


@dataclass(frozen=True, slots=True)
class RecordingOptions:
    """Options for recording the calls of a live program.

    Raises:
        ConfigError: A value is out of range.
    """

    metric: Callable[..., Any] | None = None
    """`metric(example, prediction)` scores each call, in a thread. `example` has the call's inputs and no labels."""

    keep_examples: int = 0
    """Number of scored calls that the store keeps as examples."""

    def __post_init__(self) -> None:
        keep = cast("Any", self.keep_examples)
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 0:
            raise ConfigError(f"keep_examples={keep!r}: must be a whole number of at least 0")
        if self.metric is not None and (not callable(self.metric) or inspect.iscoroutinefunction(self.metric)):
            raise ConfigError("metric must be a plain function metric(example, prediction): it runs in a thread")


@dataclass(slots=True)
class LiveRun:
    """One run that has ended."""

    call: CallId
    """The id of the call that the run belongs to."""

    version: BoundVersion
    """The version that ran."""

    inputs: dict[str, Any]
    """The keyword arguments of the call."""

    prediction: Any
    """Output of the program."""

    trace: list[Any]
    """DSPy's trace: the predictor, inputs and outputs of each predictor call."""

    has_example: bool = False
    """Whether the run has become an example already."""


@dataclass(frozen=True, slots=True)
class Score:
    """A score to be stored."""

    channel: str
    call: CallId
    value: float


@dataclass(frozen=True, slots=True)
class KeptExample:
    """An example to be stored in a channel that keeps `keep` of them."""

    channel: str
    keep: int
    example: OnlineExample


MakeEntries: TypeAlias = Callable[[], Sequence[Score | KeptExample]]
"""Returns what is to be stored. Called in the writer's thread, since turning values into JSON takes time."""


class Writer(Protocol):
    """Stores what is recorded, here or on another host."""

    @property
    def queue(self) -> BackgroundQueue[MakeEntries]:
        """Takes what is to be stored."""
        ...

    def flush(self, deadline: float) -> bool:
        """Wait until the queue is empty. Return False if a write fails meanwhile, or at `deadline`."""
        ...


class CallRecorder:
    """Records the calls of one live program."""

    def __init__(self, writer: Writer, channel: str, options: RecordingOptions, threads: Threads) -> None:
        self._channel = channel
        self._options = options
        self._writer = writer
        self._to_score = BackgroundQueue(threads, self._score_all)
        self._warn_once = WarnOnce(logger)
        self._recent: OrderedDict[str, LiveRun] = OrderedDict()
        self._lock = threading.Lock()
        survive_forks(self)

    @property
    def wants_runs(self) -> bool:
        """Whether `record` must be called for each run."""
        return self._options.metric is not None or self._options.keep_examples > 0

    def record(self, run: LiveRun) -> None:
        """Record a run that ended without an error."""
        if self._options.keep_examples:
            with self._lock:
                self._recent[str(run.call)] = run
                if len(self._recent) > CALLS_REMEMBERED:
                    self._recent.popitem(last=False)
        if self._options.metric is not None:
            context = copy_context()
            self._put(self._to_score, lambda: context.run(self._score, run))

    def report(self, score: Any, call_id: str) -> None:
        """Record the score of a call. Raises UnknownCallError or ConfigError if either is not valid."""
        call = CallId.parse(call_id)
        if not is_score(score):
            raise ConfigError(
                f"score={score!r:.80}: must be a number between -{LARGEST_SCORE:g} and {LARGEST_SCORE:g}, higher is "
                "better"
            )
        with self._lock:
            run = self._recent.get(call_id)

        def write() -> None:
            self._put(self._writer.queue, lambda: self._entries(call, float(score), run))

        if self._options.metric is None:
            write()
        else:
            self._put(self._to_score, write)  # After the metric's score, which came first.

    def close(self) -> None:
        """Wait until everything recorded so far is stored, or until that fails."""
        deadline = time.monotonic() + CLOSE_SECONDS
        if self._to_score.wait_until_empty(deadline) and self._writer.flush(deadline):
            return
        self._warn_once(
            f"some scores of channel {self._channel!r} are not stored yet: the metric is slow, or the store "
            "can't be written; those that are not stored when the process ends are lost"
        )

    def before_fork(self) -> None:
        """Do nothing: there is nothing to close."""

    def after_fork_in_parent(self) -> None:
        """Do nothing: nothing was closed."""

    def after_fork_in_child(self) -> None:
        self._lock = threading.Lock()

    def _put(self, queue: BackgroundQueue[Any], work: Any) -> None:
        if not queue.put(work):
            self._warn_once(
                f"{QUEUE_SIZE} calls of channel {self._channel!r} wait to be scored or stored; more are dropped until "
                "the store can be written and the metric keeps up"
            )

    def _score_all(self, runs: Sequence[Callable[[], None]]) -> None:
        for score in runs:
            try:
                score()
            except BaseException as error:  # noqa: BLE001 - the user's metric may raise anything, SystemExit too
                self._warn_once(f"a call of channel {self._channel!r} was not scored: {Secrets().describe(error)}")

    def _score(self, run: LiveRun) -> None:
        if self._options.metric is None:
            return
        example = dspy.Example(**run.inputs).with_inputs(*run.inputs)
        score = float(metric_result(f"call {run.call}", self._options.metric(example, run.prediction)).score)
        self._put(self._writer.queue, lambda: self._entries(run.call, score, run))

    def _entries(self, call: CallId, score: float, run: LiveRun | None) -> Sequence[Score | KeptExample]:
        entries: list[Score | KeptExample] = [Score(self._channel, call, score)]
        if run is not None and self._options.keep_examples and self._is_first_score(run):
            entries.append(KeptExample(self._channel, self._options.keep_examples, _example(run, score)))
        return entries

    def _is_first_score(self, run: LiveRun) -> bool:
        with self._lock:
            first, run.has_example = not run.has_example, True
        return first


def _example(run: LiveRun, score: float) -> OnlineExample:
    steps = trace_steps(run.trace, PredictorNames(run.version.program))
    trace: list[JSON] = [[step.predictor, dict(step.inputs), dict(step.outputs)] for step in steps]
    inputs, outputs = json_fields(run.inputs), json_fields(run.prediction)
    return OnlineExample(inputs, outputs, trace, run.call.version, score, time.time())


class Batch:
    """Records to write to the store in one transaction, by channel."""

    def __init__(self) -> None:
        self.scores: defaultdict[str, list[CanaryScore]] = defaultdict(list)
        """Scores of calls that were made while there was a canary."""
        self.examples: defaultdict[str, list[OnlineExample]] = defaultdict(list)
        """Calls to keep."""
        self.kept: dict[str, int] = {}
        """Number of examples that each channel keeps."""

    def add(self, entries: Sequence[Score | KeptExample]) -> None:
        now = time.time()
        for entry in entries:
            match entry:
                case Score(channel, call, value):
                    if call.canary:  # Other scores decide nothing.
                        self.scores[channel].append((call.canary, str(call), call.version, value, now))
                case KeptExample(channel, keep, example):
                    self.examples[channel].append(example)
                    self.kept[channel] = keep


class StoreWriter:
    """Writes scores and examples to one store, and settles canaries that have enough scores. Never creates the file.

    All live programs of a process that follow the same store share one writer, and so at most one thread.
    """

    def __init__(self, store: Path, threads: Threads) -> None:
        self._store = store
        self._warn_once = WarnOnce(logger)
        self.queue: BackgroundQueue[MakeEntries] = BackgroundQueue(threads, self._write)

    def flush(self, deadline: float) -> bool:
        """Wait until the queue is empty. Return False if a write fails meanwhile, or at `deadline`."""
        return self.queue.wait_until_empty(deadline)

    def write_now(self, entries: Sequence[Score]) -> None:
        """Store scores in this thread. Raises StoreError if that fails."""
        batch = Batch()
        batch.add(entries)
        if batch.scores:
            self._announce(self._transact(batch))

    def _write(self, work: Sequence[MakeEntries]) -> None:
        batch = Batch()
        for make in work:
            try:
                batch.add(make())
            except Exception as error:  # noqa: BLE001 - values of the user's program; the other calls count
                self._warn_once(f"a call was not recorded in {self._store}: {Secrets().describe(error)}")
        while (batch.scores or batch.examples) and not self._wrote(batch):
            self.queue.failed(RETRY_SECONDS)

    def _wrote(self, batch: Batch) -> bool:
        """Write the batch. Return False if it failed and can be tried again."""
        try:
            published = self._transact(batch)
        except StoreError as error:
            self._warn_once(f"scores can't be stored yet and are tried again: {error}")
            return False
        except Exception as error:  # noqa: BLE001 - a batch that can never be stored must not block the next one
            self._warn_once(f"{len(batch.scores)} scores were not stored in {self._store}: {Secrets().describe(error)}")
            return True
        self._warn_once.forget()
        self._announce(published)
        return True

    def _announce(self, published: Sequence[Publication]) -> None:
        for publication in published:
            logger.info("channel %r: version %d: %s", publication.channel, publication.version, publication.reason)
        if published:
            notify_followers(self._store)

    def _transact(self, batch: Batch) -> list[Publication]:
        """Store the batch in one transaction. Return the versions by which canaries were promoted or rolled back."""
        with translate_errors(self._store), closing(connect_for_writing(self._store)) as db:
            db.execute("BEGIN IMMEDIATE")
            for channel, scores in batch.scores.items():
                record_scores(db, channel, scores)
            for channel, examples in batch.examples.items():
                keep_examples(db, channel, examples, batch.kept[channel])
            settled = [settle(db, channel) for channel in batch.scores]
            db.execute("COMMIT")
        return [publication for publication in settled if publication is not None]


_writers: WeakValueDictionary[Path, StoreWriter] = WeakValueDictionary()


def writer_of(store: Path, threads: Threads) -> StoreWriter:
    """Return the writer of `store` that this process shares."""
    return _writers.get(store) or _writers.setdefault(store, StoreWriter(store, threads))


def write_scores(store: Path, scores: Sequence[Score]) -> None:
    """Store scores now, and settle canaries. Raises StoreError if the store can't be written."""
    StoreWriter(store, Threads()).write_now(scores)
