"""Fits of the model of parts to what a run knows so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simba_actors.search.evidence import Evidence, StudentScores
from simba_actors.search.model.examples import Examples
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.model.warm_start import WarmStart
from simba_actors.search.policy import Pool
from simba_actors.search.rollout import STUDENT

MOST_SCORES = 8_192
"""Maximum number of scores in a fit, unless a step makes more than a `STEPS_FITTED`th of that. It bounds the time of a
step, and the state that is stored with it, however long the run is."""

STEPS_FITTED = 16
"""Minimum number of steps whose scores are in a fit."""


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A model, and what it was fitted to."""

    evidence: Evidence
    scores: int
    programs: tuple[int, ...]
    start: WarmStart
    incumbent: int
    model: PartModel


class Fitting:
    """Fits models to rollouts on `examples`.

    In a long run, a model leaves out programs whose scores are neither among the first nor among the latest: they have
    parts that are known to do little, or else newer programs have the same parts. The student is always in.

    The last model is kept, since a step often opens with the one that the step before closed with.
    """

    def __init__(self, examples: Examples, rollouts_per_step: int, omissions: bool = False) -> None:
        self.examples = examples
        self._most_scores = max(MOST_SCORES, STEPS_FITTED * rollouts_per_step)
        self._omissions = omissions
        self._last: _Fitted | None = None

    def model(self, pool: Pool, evidence: Evidence, start: WarmStart, incumbent: int = STUDENT) -> PartModel:
        """Return the model of the evidence so far, fitted from `start`.

        It always has the `incumbent`, which other programs are compared with.
        """
        programs, last = tuple(pool.programs()), self._last
        if (
            last is not None
            and last.evidence is evidence
            and (last.scores, last.programs, last.start, last.incumbent) == (len(evidence), programs, start, incumbent)
        ):
            return last.model
        scores = evidence.student_scores(self._most_scores, incumbent)
        parts = {program: pool.parts(program) for program in self._known(programs, scores, incumbent)}
        free = (part for part in pool.free_parts() if self._omissions or part.kind != "omission")
        model = PartModel(parts, scores, self.examples, tuple(free), start)
        self._last = _Fitted(evidence, len(evidence), programs, start, incumbent, model)
        return model

    def _known(self, programs: Sequence[int], scores: StudentScores, incumbent: int) -> Sequence[int]:
        """Return the programs of a model of these `scores`: all of them, unless scores were left out."""
        if scores.all:
            return programs
        newest = programs[-(self._most_scores // STEPS_FITTED) :]  # The last candidates, even if they have no score.
        return sorted({STUDENT, incumbent, *scores.programs, *newest})
