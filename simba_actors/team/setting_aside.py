"""Setting aside examples on which no LM call is ever answered, as distinct from outages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from simba_actors.search.evidence import Evidence
from simba_actors.search.rollout import Rollout, Split

TRIES = 3
"""Failures of an example on a reachable LM before it is set aside."""

MOST_FAILING, MOST_REJECTED = 1, 4
"""Maximum number of examples that fail, or that an LM rejects, one after the other before the LM counts as down."""

MOST_WITNESSES = 16
"""Maximum number of rollouts that are kept to show later whether an LM of the pool, or an endpoint, is reachable."""

Diagnosis: TypeAlias = Literal["try again", "unclear", "outage", "set aside"]


@dataclass(frozen=True, slots=True)
class Heard:
    """How often LMs were heard. A student may call several LMs, and one endpoint may serve several LMs of the pool."""

    lms: Mapping[str, int]
    """Rollouts that ended in this process, by LM of the model pool."""
    endpoints: Mapping[str, int]
    """Calls that were answered, by endpoint."""
    failures: int = 0
    """Failures that were blamed on an example so far."""

    def of(self, lm: str, endpoint: str | None) -> tuple[int, ...]:
        """Return how often an LM of the pool was heard, and the endpoint if it is known."""
        ended = self.lms.get(lm, 0)
        return (ended,) if endpoint is None else (ended, self.answers_of(endpoint))

    def answers_of(self, endpoint: str) -> int:
        """Return how many calls the endpoint has answered."""
        return self.endpoints.get(endpoint, 0)


@dataclass(slots=True)
class _Silence:
    """The examples that have failed since an LM was last heard."""

    heard: tuple[int, ...]
    failing: set[tuple[Split, int]] = field(default_factory=set[tuple[Split, int]])


class SettingAside:
    """Decides what a rollout that ended in an infrastructure failure means for its example.

    An LM is down if two examples fail one after the other and it answers no other call in between. If it does, the LM
    is reachable, and the example is to blame: the provider never answers its prompt, or always with an error. If it
    were not set aside, the run would be paused for it again and again.

    If nothing else is left that could end, a failure is unclear: the LM may have gone down meanwhile. Only a rollout
    that the LM has answered before, run again, can tell.

    An LM that rejects a call is reachable. Its settings are to blame only if it rejects several examples in a row.

    An example that is set aside has no score and is left out for the rest of the run, even after a restart, so that the
    run ends as it would have in one process.

    Args:
        answers: Returns how many calls each endpoint has answered.
    """

    def __init__(self, answers: Callable[[], Mapping[str, int]]) -> None:
        self._answers = answers
        self._ended: Counter[str] = Counter()
        self._examples: set[tuple[Split, int]] = set()
        self._failures = 0
        self._tries: dict[tuple[Split, int], list[int]] = {}
        """The failures that were blamed on each example, by their number."""
        self._heard_at_failure: dict[tuple[Split, int], Heard] = {}
        self._silences: dict[tuple[str, str | None], _Silence] = {}
        """By LM of the model pool and endpoint."""
        self._callers: dict[tuple[str, str | None], dict[tuple[Split, int], Rollout]] = {}
        """Rollouts that ended with each LM of the model pool while each endpoint answered, by example, latest last.

        Most of them have called it; others ran at the same time as one that has. None stands for any endpoint.
        """
        self._candidates: dict[str, dict[tuple[Split, int], Rollout]] = {}
        """Rollouts that ended with each LM of the model pool before a restart, or that a cache has answered."""

    @property
    def heard(self) -> Heard:
        """How often each LM was heard so far."""
        return Heard(dict(self._ended), self._answers(), self._failures)

    def recall(self, examples: Iterable[tuple[Split, int]], evidence: Evidence) -> None:
        """Leave out the examples that the store says were set aside, and note the rollouts that have ended."""
        self._examples.update(examples)
        for score in (each for program in evidence.programs() for each in evidence.of(program)):
            if not score.failed:
                rollout = Rollout(score.key, score.program, score.example, score.model, score.split)
                _keep(self._candidates.setdefault(rollout.model.lm, {}), rollout)

    def note_end(self, rollout: Rollout, before: Heard, calls: int = 1) -> None:
        """Note that a rollout has ended with a result, after so many LM calls. `before` is `heard` when it began."""
        if calls:
            self.note_calls(rollout, before)
        else:
            _keep(self._candidates.setdefault(rollout.model.lm, {}), rollout)
        self._ended[rollout.model.lm] += 1
        self._tries.pop((rollout.split, rollout.example), None)

    def note_failure(
        self,
        rollout: Rollout,
        before: Heard,
        *,
        others: Iterable[tuple[Split, int]],
        endpoint: str | None = None,
        rejected: bool = False,
    ) -> Diagnosis:
        """Note that a rollout met an infrastructure failure, and return what to do.

        Args:
            rollout: The rollout.
            before: `heard` when this try began.
            others: The examples of other rollouts that are left, which can show whether the LM is reachable.
            endpoint: Name of the endpoint that failed, if it is known.
            rejected: Whether the LM rejected a call of the rollout.
        """
        example: tuple[Split, int] = (rollout.split, rollout.example)
        heard = self.heard
        since, self._heard_at_failure[example] = self._heard_at_failure.get(example, before), heard
        count = heard.of(rollout.model.lm, endpoint)
        if any(_is_more(count, earlier.of(rollout.model.lm, endpoint)) for earlier in (since, before)):
            return self.blame(rollout, before)
        failing = self._failing(rollout, endpoint, count)
        failing.add(example)
        if rejected and len(failing) > MOST_REJECTED:
            return "outage"
        if failing.issuperset(others):
            was_heard = all(count)
            return self.blame(rollout, before) if rejected and was_heard else "unclear"
        return "outage" if not rejected and len(failing) > MOST_FAILING else "try again"

    def _failing(self, rollout: Rollout, endpoint: str | None, count: tuple[int, ...]) -> set[tuple[Split, int]]:
        """Return the examples that have failed since the LM was last heard."""
        key = (rollout.model.lm, endpoint)
        if key not in self._silences or _is_more(count, self._silences[key].heard):
            self._silences[key] = _Silence(count)
        return self._silences[key].failing

    def blame(self, rollout: Rollout, before: Heard) -> Diagnosis:
        """Note that the rollout's failure was not an outage's, and return what to do.

        Rollouts of the same example that fail at the same time count as one try: a short outage may have met them all.
        """
        example: tuple[Split, int] = (rollout.split, rollout.example)
        tries = self._tries.setdefault(example, [])
        if tries and before.failures < tries[-1]:
            return "try again"
        self._failures += 1
        tries.append(self._failures)
        if len(tries) < TRIES:
            return "try again"
        self._examples.add(example)
        return "set aside"

    def note_calls(self, rollout: Rollout, before: Heard) -> None:
        """Note that a rollout has called LMs, perhaps at the endpoints that have answered since `before`."""
        self.add_caller(rollout, None)
        for endpoint, count in self._answers().items():
            if count > before.answers_of(endpoint):
                self.add_caller(rollout, endpoint)

    def add_caller(self, rollout: Rollout, endpoint: str | None) -> None:
        """Note that a rollout calls an endpoint; None stands for one that is not known."""
        _keep(self._callers.setdefault((rollout.model.lm, endpoint), {}), rollout)

    def remove_caller(self, rollout: Rollout, endpoint: str | None) -> None:
        """Note that a rollout does not call an endpoint after all."""
        self._callers.get((rollout.model.lm, endpoint), {}).pop((rollout.split, rollout.example), None)

    def witnesses(self, lm: str, endpoint: str | None) -> Iterator[Rollout]:
        """Yield rollouts that may show whether an LM is reachable, at that endpoint if it is known, best first.

        Candidates come last. Each of them is yielded once in this process.
        """
        yield from reversed(tuple(self._callers.get((lm, endpoint), {}).values()))
        candidates = self._candidates.get(lm, {})
        while candidates:
            yield candidates.popitem()[1]

    def has(self, rollout: Rollout) -> bool:
        """Return whether the rollout's example is set aside."""
        return (rollout.split, rollout.example) in self._examples

    def left_of(self, rollouts: Iterable[Rollout], evidence: Evidence) -> tuple[Rollout, ...]:
        """Return the rollouts that can still be run.

        A policy that misses the score of a set-aside example may ask for the same rollouts again and again.
        """
        return self.without(each for each in rollouts if not evidence.has(each.program, each.key))

    def without(self, rollouts: Iterable[Rollout]) -> tuple[Rollout, ...]:
        """Return the rollouts whose example is not set aside."""
        return tuple(rollout for rollout in rollouts if not self.has(rollout))


def _keep(rollouts: dict[tuple[Split, int], Rollout], rollout: Rollout) -> None:
    """Add a rollout as the latest one, in place of another of its example or of the oldest one if there are many."""
    rollouts.pop((rollout.split, rollout.example), None)
    rollouts[rollout.split, rollout.example] = rollout
    if len(rollouts) > MOST_WITNESSES:
        del rollouts[next(iter(rollouts))]


def _is_more(count: tuple[int, ...], earlier: tuple[int, ...]) -> bool:
    """Return whether all counts are higher than earlier ones."""
    return all(now > then for now, then in zip(count, earlier, strict=True))
