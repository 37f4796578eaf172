"""The scores of a run so far: what policies decide by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from simba_actors.search.plan import ModelSpec, Phase, RolloutKey, Split


@dataclass(frozen=True, slots=True)
class Score:
    """One scored rollout, without its trajectory. `failed` says that it is the 0 of a program failure."""

    key: RolloutKey
    program: int
    example: int
    score: float
    model: ModelSpec = ModelSpec()
    split: Split = "train"
    failed: bool = False


class Evidence:
    """All scores of a run, by program. Order of arrival never shows: every answer is in the order of the plans."""

    def __init__(self, scores: Iterable[Score] = ()) -> None:
        self._by_program: dict[int, dict[RolloutKey, Score]] = {}
        self._in_order: dict[int, tuple[Score, ...]] = {}  # Of programs that were asked for since their last score.
        self._tried: set[tuple[int, int, Split]] = set()
        self.add(scores)

    def add(self, scores: Iterable[Score]) -> None:
        """Adds `scores`; one that is known already changes nothing."""
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
        """How many rollouts of that step are scored."""
        return sum(key.step == step for scores in self._by_program.values() for key in scores)

    def programs(self) -> list[int]:
        return sorted(self._by_program)

    def of(self, program: int, phase: Phase | None = None) -> Sequence[Score]:
        """The program's scores, in the order of their keys; those of one phase if it is given."""
        if program not in self._in_order:
            known = self._by_program.get(program, {})
            self._in_order[program] = tuple(known[key] for key in sorted(known))
        scores = self._in_order[program]
        return scores if phase is None else [score for score in scores if score.key.phase == phase]

    def mean(self, program: int, phase: Phase) -> float | None:
        """The program's mean score in `phase`, or None where it has none. Sums in plan order, as `dspy.SIMBA` does."""
        scores = [score.score for score in self.of(program, phase)]
        return sum(scores) / len(scores) if scores else None

    def has_example(self, program: int, example: int, split: Split = "train") -> bool:
        """Whether the program has run on that row as it runs in use: with the student's own LM, untouched."""
        return (program, example, split) in self._tried

    def has(self, program: int, key: RolloutKey) -> bool:
        return key in self._by_program.get(program, {})
