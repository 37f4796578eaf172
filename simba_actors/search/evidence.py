"""Evidence: the scores of a run so far, on which policies base their decisions."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simba_actors.search.rollout import FINAL_STEP, STUDENT, ModelSpec, Phase, RolloutKey, Split

if TYPE_CHECKING:
    import numpy.typing as npt  # Not at runtime: DSPy 3.4.0 replaces numpy by a stand-in without it.

_PROGRAM, _STEP, _PHASE, _POSITION, _EXAMPLE, _VALIDATION, _SCORE, _RESAMPLED = range(8)
"""Rows of the arrays in `Evidence._columns`, which have a column for each score."""

_PHASES: tuple[Phase, ...] = ("evaluate", "final", "sample")
"""In the order of their names, as in the order of keys."""

_NO_COLUMNS = np.zeros((8, 0))


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
    all: bool
    """Whether none was left out."""
    extremes: tuple[float, ...]
    """The lowest and the highest score of the run, also if they are not among these; empty without any."""


class Evidence:
    """All scores of a run, by program.

    Every method returns scores in the order of the plans, so the order in which replies arrived has no effect.
    """

    def __init__(self, scores: Iterable[Score] = ()) -> None:
        self._by_program: dict[int, dict[RolloutKey, Score]] = {}
        self._in_order: dict[int, tuple[Score, ...]] = {}  # Sorted scores of programs with no new score since.
        self._columns: dict[int, npt.NDArray[np.float64]] = {}  # Of the student's LM, by step, for `student_scores`.
        self._not_in_columns: dict[int, list[Score]] = {}  # Scores added since, by step.
        self._sampled: dict[int, tuple[Score, ...]] = {}  # By step.
        self._sampled_in_order: dict[int, tuple[Score, ...]] = {}  # Of steps with no new sample since.
        self._lent: set[int] = set()  # Programs whose scores a copy shares; they are copied before the next is added.
        self._tried: set[tuple[int, int, Split]] = set()
        self._count = self._rounds = 0
        self._extremes: tuple[float, ...] = ()
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
            if score.model.is_student_lm:
                self._not_in_columns.setdefault(score.key.step, []).append(score)
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
        self._fill_columns()
        copied._in_order, copied._columns = dict(self._in_order), dict(self._columns)
        copied._tried, copied._count, copied._rounds = set(self._tried), self._count, self._rounds
        copied._extremes = self._extremes
        self._lent, copied._lent = set(self._by_program), set(self._by_program)
        return copied

    def without_steps(self, open_steps: Container[int]) -> tuple[Evidence, list[Score]]:
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

    def student_scores(self, most: int | None = None, incumbent: int = STUDENT) -> StudentScores:
        """Return the scores of the student's own LM: all of them, or about `most` if there are more.

        If there are more, up to a quarter of `most` are kept of each of these:

        - the first scores of the run, from small programs that have little in common
        - the latest scores of finals
        - the latest scores of the `incumbent`, which others are compared with

        The rest are the latest scores of the search, from programs that are still in question.
        """
        self._fill_columns()
        steps = sorted(step for step in self._columns if step != FINAL_STEP)
        finals = self._columns.get(FINAL_STEP, _NO_COLUMNS)
        count = finals.shape[1] + sum(self._columns[step].shape[1] for step in steps)
        keeps_all = most is None or count <= most
        if most is None or keeps_all:
            kept = [finals, *(self._columns[step] for step in steps)]
        else:
            finals, quarter = finals[:, -(most // 4) :], most // 4
            own = self._columns_of(incumbent)[:, -quarter:]
            first = self._first_of(steps, quarter)
            latest = self._first_of(steps[::-1], most - quarter - finals.shape[1] - own.shape[1])
            others = np.concatenate([finals, *first, *latest], axis=1)
            kept = [own, others[:, others[_PROGRAM] != incumbent]]
        table = np.concatenate(kept, axis=1)
        table = table[:, np.lexsort(table[[_POSITION, _PHASE, _STEP, _PROGRAM]])]
        programs, program = np.unique(table[_PROGRAM].astype(np.int64), return_inverse=True)
        return StudentScores(
            programs=tuple(programs.tolist()),
            program=program,
            example=table[_EXAMPLE].astype(np.int64),
            validation=table[_VALIDATION] > 0,
            score=table[_SCORE],
            resampled=table[_RESAMPLED] > 0,
            all=keeps_all,
            extremes=self._extremes,
        )

    def _columns_of(self, program: int) -> npt.NDArray[np.float64]:
        """Return the columns of one program's scores, those of finals first, then by step."""
        own = [_column_of(score) for score in self.of(program) if score.model.is_student_lm]
        return np.array(own, dtype=np.float64).reshape(len(own), len(_NO_COLUMNS)).T

    def _first_of(self, steps: Sequence[int], count: int) -> list[npt.NDArray[np.float64]]:
        """Return the columns of the first `count` scores of these steps."""
        kept: list[npt.NDArray[np.float64]] = []
        for step in steps:
            if count <= 0:
                break
            kept.append(self._columns[step][:, :count])
            count -= kept[-1].shape[1]
        return kept

    def _fill_columns(self) -> None:
        """Add what was added to `_columns`, where scores are in the order of their keys."""
        for step, scores in self._not_in_columns.items():
            added = np.array([_column_of(score) for score in scores], dtype=np.float64).T
            columns = np.concatenate([self._columns.get(step, _NO_COLUMNS), added], axis=1)
            self._columns[step] = columns[:, np.lexsort(columns[[_POSITION, _PHASE]])]
            known = [*self._extremes, *added[_SCORE].tolist()]
            self._extremes = min(known), max(known)
        self._not_in_columns = {}


def _column_of(score: Score) -> tuple[float, ...]:
    key = score.key
    place = score.program, key.step, _PHASES.index(key.phase), key.position
    return (*place, score.example, score.split == "val", score.score, score.model.temperature is not None)
