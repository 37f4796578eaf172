"""Fits of the model of parts to what a run knows so far."""

from __future__ import annotations

from dataclasses import dataclass

from simba_actors.search.evidence import Evidence
from simba_actors.search.model.examples import Examples
from simba_actors.search.model.mode import Mode
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.policy import Pool


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A model, and what it was fitted to."""

    evidence: Evidence
    scores: int
    programs: tuple[int, ...]
    start: Mode
    model: PartModel


class Fitting:
    """Fits models to rollouts on `examples`.

    The last model is kept, since a step often opens with the one that the step before closed with.
    """

    def __init__(self, examples: Examples, omissions: bool = False) -> None:
        self.examples = examples
        self._omissions = omissions
        self._last: _Fitted | None = None

    def model(self, pool: Pool, evidence: Evidence, start: Mode) -> PartModel:
        """Return the model of the evidence so far, fitted from `start`."""
        programs, last = tuple(pool.programs()), self._last
        if (
            last is not None
            and last.evidence is evidence
            and (last.scores, last.programs, last.start) == (len(evidence), programs, start)
        ):
            return last.model
        parts = {program: pool.parts(program) for program in programs}
        free = (part for part in pool.free_parts() if self._omissions or part.kind != "omission")
        model = PartModel(parts, evidence, self.examples, tuple(free), start)
        self._last = _Fitted(evidence, len(evidence), programs, start, model)
        return model
