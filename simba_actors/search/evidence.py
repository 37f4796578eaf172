"""The scores of a run so far, by which policies decide."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from simba_actors.search.plan import ModelSpec, Phase, RolloutKey, Split


@dataclass(frozen=True, slots=True)
class Score:
    """One scored rollout, without its trajectory."""

    key: RolloutKey
    program: int
    """The program's number in the pool."""
    example: int
    """The example's index in its split."""
    score: float
    model: ModelSpec = ModelSpec()
    split: Split = "train"
    failed: bool = False
    """Whether this is the 0 of a program failure."""


class Evidence:
    """All scores of a run, by program.

    Every method returns scores in the order of the plans, so the order in which replies arrived has no effect.
    """

    def __init__(self, scores: Iterable[Score] = ()) -> None:
        self._by_program: dict[int, dict[RolloutKey, Score]] = {}
        self._in_order: dict[int, tuple[Score, ...]] = {}  # Sorted scores of programs with no new score since.
        self._tried: set[tuple[int, int, Split]] = set()
        self.add(scores)

    def add(self, scores: Iterable[Score]) -> None:
        """Add `scores`. One that is known already has no effect."""
        for score in scores:
            self._by_program.setdefault(score.program, {}).setdefault(score.key, score)
            self._in_order.pop(score.program, None)
            if score.model == ModelSpec():
                self._tried.add((score.program, score.example, score.split))

    def copy(self) -> Evidence:
        """Return the same evidence, unchanged by scores that are added to this one later."""
        return Evidence(score for scores in self._by_program.values() for score in scores.values())

    def __len__(self) -> int:
        return sum(len(scores) for scores in self._by_program.values())

    def rollouts_in(self, step: int) -> int:
        """Return how many rollouts of that step are scored."""
        return sum(key.step == step for scores in self._by_program.values() for key in scores)

    def programs(self) -> list[int]:
        """Return the numbers of all programs that have a score, ascending."""
        return sorted(self._by_program)

    def of(self, program: int, phase: Phase | None = None) -> Sequence[Score]:
        """Return the program's scores in the order of their keys: all of them, or those of one phase."""
        if program not in self._in_order:
            known = self._by_program.get(program, {})
            self._in_order[program] = tuple(known[key] for key in sorted(known))
        scores = self._in_order[program]
        return scores if phase is None else [score for score in scores if score.key.phase == phase]

    def mean(self, program: int, phase: Phase) -> float | None:
        """Return the program's mean score in `phase`, or None. Scores are added in plan order, as in `dspy.SIMBA`."""
        scores = [score.score for score in self.of(program, phase)]
        return sum(scores) / len(scores) if scores else None

    def has_example(self, program: int, example: int, split: Split = "train") -> bool:
        """Whether the program has run on that example as it runs in use: with the student's own LM, unchanged."""
        return (program, example, split) in self._tried

    def has(self, program: int, key: RolloutKey) -> bool:
        """Whether the rollout is scored."""
        return key in self._by_program.get(program, {})
