"""Setting aside examples on which no LM call is ever answered, as distinct from outages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal, TypeAlias

from simba_actors.search.evidence import Evidence
from simba_actors.search.rollout import Rollout, Split

TRIES = 3
"""Failures of an example on a reachable LM before it is set aside."""

MOST_FAILING, MOST_REJECTED = 1, 4
"""Maximum number of examples that fail, or that an LM rejects, one after the other before the LM counts as down."""

Diagnosis: TypeAlias = Literal["try again", "unclear", "outage", "set aside"]


class SettingAside:
    """Decides what a rollout that ended in an infrastructure failure means for its example.

    An LM is down if two examples fail one after the other with no rollout ending in between. If others end, the LM is
    reachable, and the example is to blame: the provider never answers its prompt, or always with an error. If it were
    not set aside, the run would be paused for it again and again.

    If nothing else is left that could end, a failure is unclear: the LM may have gone down meanwhile. Only a rollout
    that the LM has answered before, run again, can tell.

    An LM that rejects a call is reachable. Its settings are to blame only if it rejects several examples in a row.

    An example that is set aside has no score and is left out for the rest of the run, even after a restart, so that the
    run ends as it would have in one process.
    """

    def __init__(self) -> None:
        self._examples: set[tuple[Split, int]] = set()
        self._tries: Counter[tuple[Split, int]] = Counter()
        self._ended_at_failure: dict[tuple[Split, int], int] = {}
        self._failing: set[tuple[Split, int]] = set()
        self._answered: dict[str, Rollout] = {}
        """The last rollout that ended with each LM of the model pool."""
        self.ended = 0
        """Number of rollouts that have a result."""

    def recall(self, examples: Iterable[tuple[Split, int]]) -> None:
        """Leave out the examples that the store says were set aside."""
        self._examples.update(examples)

    def note_end(self, rollout: Rollout) -> None:
        """Note that a rollout has ended with a result."""
        self._answered[rollout.model.lm] = rollout
        self.ended += 1
        self._failing.clear()

    def note_failure(
        self, rollout: Rollout, ended_before: int, *, others: Iterable[tuple[Split, int]], rejected: bool = False
    ) -> Diagnosis:
        """Note that a rollout met an infrastructure failure, and return what to do.

        Args:
            rollout: The rollout.
            ended_before: `ended` when this try began.
            others: The examples of other rollouts that are left, which can show whether the LM is reachable.
            rejected: Whether the LM rejected a call of the rollout.
        """
        example = (rollout.split, rollout.example)
        since, self._ended_at_failure[example] = self._ended_at_failure.get(example, ended_before), self.ended
        if self.ended > min(since, ended_before):
            return self.blame(rollout)
        self._failing.add(example)
        if rejected and len(self._failing) > MOST_REJECTED:
            return "outage"
        if self._failing.issuperset(others):
            return self.blame(rollout) if rejected and rollout.model.lm in self._answered else "unclear"
        return "outage" if not rejected and len(self._failing) > MOST_FAILING else "try again"

    def blame(self, rollout: Rollout) -> Diagnosis:
        """Note that the rollout's failure was not an outage's, and return what to do."""
        if rollout.model.lm not in self._answered:
            return "outage"  # Rollouts with other LMs end, and this one has answered none.
        example = (rollout.split, rollout.example)
        self._tries[example] += 1
        if self._tries[example] < TRIES:
            return "try again"
        self._examples.add(example)
        return "set aside"

    def answered(self, lm: str) -> Rollout | None:
        """Return the last rollout that ended with the LM, or None if none has."""
        return self._answered.get(lm)

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
