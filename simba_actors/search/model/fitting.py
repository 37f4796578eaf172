"""The model of parts, fitted to what a run knows so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simba_actors.search.evidence import Evidence
from simba_actors.search.model.answers import Answers
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.model.similarity import Similarity
from simba_actors.search.policy import Pool


@dataclass(frozen=True, slots=True)
class Row:
    """An example as text: all of its fields one after another, and its labels by name."""

    text: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A model with what it was fitted to."""

    evidence: Evidence
    scores: int
    programs: tuple[int, ...]
    model: PartModel


class Fitting:
    """Fits models to the rollouts on these rows, by which it is told what parts are about.

    In `answers`, the valset's rows follow the trainset's.

    The last model is kept: a step opens with what the one before closed with.
    """

    def __init__(self, train_rows: Sequence[Row], val_rows: Sequence[Row]) -> None:
        rows = (*train_rows, *val_rows)
        self._trainset = len(train_rows)
        self._similarity = Similarity([row.text for row in rows])
        self.answers = Answers([row.labels for row in rows])
        self._last: _Fitted | None = None

    def model(self, pool: Pool, evidence: Evidence) -> PartModel:
        programs, last = tuple(pool.programs()), self._last
        if last is not None and last.evidence is evidence and (last.scores, last.programs) == (len(evidence), programs):
            return last.model
        parts = {program: pool.parts(program) for program in programs}
        model = PartModel(parts, evidence, self._similarity, self.answers, self._trainset, pool.settings())
        self._last = _Fitted(evidence, len(evidence), programs, model)
        return model
