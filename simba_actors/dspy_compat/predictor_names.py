"""Names of the predictors in a trace, even if copies of them ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any


class PredictorNames:
    """Finds the names of predictors of `program`, and of its copies, as in `named_predictors()`.

        names = PredictorNames(program)
        names.of(predictor)  # "answer", or None for a predictor of something else

    `dspy.BestOfN` and `dspy.Refine` run copies of their module. A copy keeps the `stage` of its original, which DSPy
    draws for each predictor.

    Args:
        program: A program whose predictors stay alive.
        only: The names to know; all by default.
    """

    def __init__(self, program: Any, only: Collection[str] | None = None) -> None:
        predictors: dict[str, Any] = dict(program.named_predictors())
        stages = Counter(_stage(predictor) for predictor in predictors.values())
        wanted = {name: predictor for name, predictor in predictors.items() if only is None or name in only}
        self._by_id = {id(predictor): name for name, predictor in wanted.items()}
        self._by_stage = {_stage(p): name for name, p in wanted.items() if stages[_stage(p)] == 1}

    def of(self, predictor: Any) -> str | None:
        """Return the name of `predictor`; None if it is not one of the program's."""
        return self._by_id.get(id(predictor)) or self._by_stage.get(_stage(predictor))


def tell_apart(program: Any) -> None:
    """Give predictors of `program` a `stage` of their own if some were made as copies of others."""
    predictors: dict[str, Any] = dict(program.named_predictors())
    stages = Counter(_stage(predictor) for predictor in predictors.values())
    for name, predictor in predictors.items():
        if stages[_stage(predictor)] > 1:
            predictor.stage = f"{predictor.stage} {name}"


def _stage(predictor: Any) -> str | None:
    return getattr(predictor, "stage", None)
