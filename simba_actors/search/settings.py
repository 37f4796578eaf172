"""Settings that shape the search."""

from __future__ import annotations

from dataclasses import dataclass

MOST_RULES = 12
"""Maximum number of rules that are appended to a predictor's instructions. Shorter prompts cost little here: without
limits of rules and demos, the best programs of planted worlds gain 0.01 more (see `tests/benchmarks`)."""


@dataclass(frozen=True, slots=True)
class Caps:
    """Maximum number of demos and of rules per predictor."""

    demos: int
    rules: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """The settings that `dspy.SIMBA` has too, by its names. `OptimizerConfig` documents and checks them."""

    bsize: int
    """Examples per step."""
    num_candidates: int
    """Trajectories sampled per example of a step. A step has one candidate more than that."""
    max_steps: int
    """Maximum number of steps."""
    max_demos: int
    """Maximum number of demos per predictor; 0 means that none are added."""
    temperature_for_sampling: float = 0.2
    """Softmax temperature for picking the programs that sample trajectories."""
    temperature_for_candidates: float = 0.2
    """Softmax temperature for picking the programs that candidates are made from."""
    seed: int = 0
    """Seed of all random draws."""

    @property
    def caps(self) -> Caps:
        """The caps of every predictor."""
        return Caps(self.max_demos, MOST_RULES)
