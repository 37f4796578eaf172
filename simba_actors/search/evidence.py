"""Evidence: the scores of a run so far, on which policies base their decisions."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simba_actors.search.rollout import ModelSpec, Phase, RolloutKey, Split

if TYPE_CHECKING:
    import numpy.typing as npt  # Not at runtime: DSPy 3.4.0 replaces numpy by a stand-in without it.


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


@dataclass(frozen=True, slots=True)
class StudentScores:
    """Scores of the student's own LM as arrays with an entry for each, by program and then by key."""

    programs: tuple[int, ...]
    """Numbers of the programs that have a score."""
    program: npt.NDArray[np.int64]
    """Each score's index in `programs`."""
    example: npt.NDArray[np.int64]
    validation: npt.NDArray[np.bool_]
    """Whether the example is one of the valset."""
    score: npt.NDArray[np.float64]
    resampled: npt.NDArray[np.bool_]
    """Whether a temperature was set for the rollout."""


class Evidence:
    """All scores of a run, by program.

    Every method returns scores in the order of the plans, so the order in which replies arrived has no effect.
    """

    def __init__(self, scores: Iterable[Score] = ()) -> None:
        self._by_program: dict[int, dict[RolloutKey, Score]] = {}
        self._in_order: dict[int, tuple[Score, ...]] = {}  # Sorted scores of programs with no new score since.
        self._columns: dict[int, npt.NDArray[np.float64]] = {}  # Of the same programs, for `student_scores`.
        self._sampled: dict[int, tuple[Score, ...]] = {}  # By step.
        self._sampled_in_order: dict[int, tuple[Score, ...]] = {}  # Of steps with no new sample since.
        self._lent: set[int] = set()  # Programs whose scores a copy shares; they are copied before the next is added.
        self._tried: set[tuple[int, int, Split]] = set()
        self._count = self._rounds = 0
        self.add(scores)

    def add(self, scores: Iterable[Score]) -> None:
        """Add `scores`. A score whose rollout is known already is ignored."""
        for score in scores:
            if score.key in self._by_program.get(score.program, ()):
                continue
            if score.program in self._lent:
                self._lent.discard(score.program)
                self._by_program[score.program] = dict(self._by_program[score.program])
            self._by_program.setdefault(score.program, {})[score.key] = score
            self._count += 1
            self._in_order.pop(score.program, None)
            self._columns.pop(score.program, None)
            if score.key.phase == "sample":
                self._sampled[score.key.step] = (*self._sampled.get(score.key.step, ()), score)
                self._sampled_in_order.pop(score.key.step, None)
            elif score.key.phase == "final":
                self._rounds = max(self._rounds, score.key.round_number + 1)
            if score.model == ModelSpec():
                self._tried.add((score.program, score.example, score.split))

    def copy(self) -> Evidence:
        """Return the same evidence, unchanged by scores that are added to this one later."""
        copied = Evidence()
        copied._by_program, copied._sampled = dict(self._by_program), dict(self._sampled)
        copied._in_order, copied._columns = dict(self._in_order), dict(self._columns)
        copied._tried, copied._count, copied._rounds = set(self._tried), self._count, self._rounds
        self._lent, copied._lent = set(self._by_program), set(self._by_program)
        return copied

    def split(self, open_steps: Container[int]) -> tuple[Evidence, list[Score]]:
        """Return the evidence of all steps but the `open_steps`, and the scores of those."""
        scores = [score for program in self.programs() for score in self.of(program)]
        of_open_steps = [score for score in scores if score.key.step in open_steps]
        if not of_open_steps:
            return self, []
        return Evidence(score for score in scores if score.key.step not in open_steps), of_open_steps

    def __len__(self) -> int:
        return self._count

    @property
    def rounds(self) -> int:
        """The number of rounds of finals that have been run."""
        return self._rounds

    def rollouts_in(self, step: int) -> int:
        """Return how many rollouts of the step are scored."""
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

    def own_mean(self, program: int) -> float | None:
        """Return the mean of all the program's scores with the student's own LM, or None if it has none."""
        scores = [score.score for score in self.of(program) if score.model.is_student_lm]
        return sum(scores) / len(scores) if scores else None

    def has_example(self, program: int, example: int, split: Split = "train") -> bool:
        """Return whether the program has run on the example with the student's own LM, unchanged, as it runs in use."""
        return (program, example, split) in self._tried

    def has(self, program: int, key: RolloutKey) -> bool:
        """Return whether the rollout is scored."""
        return key in self._by_program.get(program, {})

    def sampled(self, step: int) -> Sequence[Score]:
        """Return the scores of a step's samples, by program and then by key."""
        if step not in self._sampled_in_order:
            scores = sorted(self._sampled.get(step, ()), key=lambda score: (score.program, score.key))
            self._sampled_in_order[step] = tuple(scores)
        return self._sampled_in_order[step]

    def student_scores(self) -> StudentScores:
        """Return all scores of the student's own LM."""
        columns = [(program, self._columns_of(program)) for program in self.programs()]
        columns = [(program, own) for program, own in columns if own.shape[1]]
        table = np.concatenate([own for _, own in columns], axis=1) if columns else np.zeros((4, 0))
        sizes = [own.shape[1] for _, own in columns]
        return StudentScores(
            programs=tuple(program for program, _ in columns),
            program=np.repeat(np.arange(len(columns)), sizes),
            example=table[0].astype(np.int64),
            validation=table[1] > 0,
            score=table[2],
            resampled=table[3] > 0,
        )

    def _columns_of(self, program: int) -> npt.NDArray[np.float64]:
        """Return example, validation, score and resampling of one program's scores, a row each."""
        if program not in self._columns:
            own = [score for score in self.of(program) if score.model.is_student_lm]
            values = [(s.example, s.split == "val", s.score, s.model.temperature is not None) for s in own]
            self._columns[program] = np.array(values, dtype=np.float64).reshape(len(own), 4).T.copy()
        return self._columns[program]
