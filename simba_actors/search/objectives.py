"""Several metrics at once: how the named scores of a rollout become the one score that the search maximizes.

    def metric(example, prediction):
        return dspy.Prediction(accuracy=example.answer == prediction.answer, brevity=1 / (1 + len(prediction.answer)))

    config = OptimizerConfig(…, metric=metric, objectives=Weighted({"accuracy": 0.8, "brevity": 0.2}))
    config = OptimizerConfig(…, metric=metric, objectives=Pareto(["accuracy", "brevity"]))

Higher is better for each score. The store keeps all of them as the metric returned them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from simba_actors.errors import ConfigError

Ranking: TypeAlias = "list[tuple[int, float]]"
"""(program, score) pairs, the best first."""


class Objectives(ABC):
    """Base class of rules that combine several named scores."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of the scores that the metric returns."""

    @abstractmethod
    def combine(self, scores: Mapping[str, float]) -> float:
        """Return the score that the search maximizes."""

    @abstractmethod
    def choose(self, ranking: Ranking, scores: Mapping[int, Mapping[str, float]]) -> Ranking:
        """Return the programs of the result with their combined scores, the winner first.

        `ranking` has the finalists with their combined scores, best first, and `scores` those by objective.
        """


@dataclass(frozen=True, slots=True)
class Weighted(Objectives):
    """The weighted mean of the named scores.

        def metric(example, prediction):
            return dspy.Prediction(accuracy=…, brevity=…)

        config = OptimizerConfig(…, metric=metric, objectives=Weighted({"accuracy": 0.8, "brevity": 0.2}))

    The winner is the program that does best by it.
    """

    weights: Mapping[str, float]
    """A positive weight by name. Only their ratios matter."""

    def __post_init__(self) -> None:
        if not isinstance(cast("Any", self.weights), Mapping):
            raise ConfigError(
                f"Weighted({self.weights!r:.80}): pass a dict such as {{'accuracy': 0.8, 'brevity': 0.2}}"
            )
        _check_names("Weighted", tuple(self.weights))
        for name, weight in self.weights.items():
            if isinstance(weight, bool) or not isinstance(cast("Any", weight), int | float):
                raise ConfigError(f"Weighted({{{name!r}: {weight!r}}}): a weight must be a number above 0")
            if not 0 < weight < math.inf:
                raise ConfigError(
                    f"Weighted({{{name!r}: {weight!r}}}): a weight must be above 0 and finite. If less is better, "
                    "let the metric return a score that grows as it gets better, such as 1 / length"
                )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.weights)

    def combine(self, scores: Mapping[str, float]) -> float:
        return sum(weight * scores[name] for name, weight in self.weights.items()) / sum(self.weights.values())

    def choose(self, ranking: Ranking, scores: Mapping[int, Mapping[str, float]]) -> Ranking:
        return ranking


@dataclass(frozen=True, slots=True)
class Pareto(Objectives):
    """The Pareto front: the finalists that no other finalist dominates.

        def metric(example, prediction):
            return dspy.Prediction(accuracy=…, brevity=…)

        config = OptimizerConfig(…, metric=metric, objectives=Pareto(["accuracy", "brevity"]))

    One program dominates another if it is at least as good in all scores and better in one. The search maximizes the
    plain mean of the scores, and the winner is the program of the front that does best by it. The others are in
    `result.candidate_programs`, each with its `scores`, for the user to choose from.
    """

    objectives: Sequence[str]
    """Names of the scores, at least two."""

    def __post_init__(self) -> None:
        if isinstance(self.objectives, str) or len(self.objectives) < 2:
            raise ConfigError(f"Pareto({self.objectives!r}): pass at least two names, such as ['accuracy', 'brevity']")
        _check_names("Pareto", tuple(self.objectives))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.objectives)

    def combine(self, scores: Mapping[str, float]) -> float:
        return sum(scores[name] for name in self.objectives) / len(self.objectives)

    def choose(self, ranking: Ranking, scores: Mapping[int, Mapping[str, float]]) -> Ranking:
        front = pareto_front({program: scores[program] for program, _ in ranking})
        return [(program, self.combine(scores[program])) for program, _ in ranking if program in front]


def pareto_front(scores: Mapping[int, Mapping[str, float]]) -> set[int]:
    """Return the programs that no other dominates by being at least as good in everything and better in something."""

    def dominates(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
        return all(one[name] >= other[name] for name in other) and any(one[name] > other[name] for name in other)

    return {number for number, own in scores.items() if not any(dominates(other, own) for other in scores.values())}


def _check_names(kind: str, names: Sequence[object]) -> None:
    if not names:
        raise ConfigError(f"{kind}: name at least one score that the metric returns")
    for name in names:
        if not isinstance(name, str) or not name.isidentifier():
            raise ConfigError(f"{kind}: {name!r} can't be a field of the dspy.Prediction that the metric returns")
        if names.count(name) > 1:
            raise ConfigError(f"{kind}: {name!r} is named twice")
