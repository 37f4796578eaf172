"""Copies of the student that are ready to run: one for each configuration and model."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import dspy

from simba_actors.errors import NoLMError
from simba_actors.lm.governed_lm import governed
from simba_actors.lm.governor import Caller, Governor
from simba_actors.programs import Configuration, ConfigurationSpace
from simba_actors.programs.copying import copied
from simba_actors.runtime.threads import Threads
from simba_actors.search.plan import STUDENT_LM, ModelSpec

Key = TypeVar("Key")
Value = TypeVar("Value")

PROGRAMS_KEPT = 64
"""Configurations applied, and programs bound, that are kept: a step of `dspy.SIMBA`'s defaults uses fewer."""


@dataclass(frozen=True, slots=True)
class BoundProgram:
    """A copy of the student with one configuration and model, run by many rollouts at a time as in `dspy.SIMBA`.

    `names` maps the `id` of each predictor of the configuration to its name.
    """

    module: Any
    names: Mapping[int, str]


class Programs:
    """Makes bound programs, and keeps those used last.

    Args:
        student: Never changed. Its predictors' own LMs are used by all its copies, through governed copies of them.
        space: The student's.
        lms: The run's model pool. "student" is for predictors without an LM of their own; the others take the place of
            every predictor's LM.
    """

    def __init__(
        self,
        student: dspy.Module,
        space: ConfigurationSpace,
        lms: Mapping[str, Any],
        governor: Governor,
        caller: Caller,
        threads: Threads,
    ) -> None:
        self._space = space
        self._pool = lms
        self._governor, self._caller, self._threads = governor, caller, threads
        self._own = {name: predictor.lm for name, predictor in _all_predictors(student).items()}
        # Copying a program must not copy LMs, nor the histories in them.
        self._student: dspy.Module = student.deepcopy()
        for predictor in _all_predictors(self._student).values():
            predictor.lm = None
        self._applied: OrderedDict[str, dspy.Module] = OrderedDict()
        self._bound: OrderedDict[tuple[str, ModelSpec], BoundProgram] = OrderedDict()
        self._lms: dict[tuple[int, ModelSpec], Any] = {}
        self.default_lm = self._governed(lms[STUDENT_LM], ModelSpec()) if lms.get(STUDENT_LM) is not None else None

    def bound(self, configuration: Configuration, model: ModelSpec) -> BoundProgram:
        """The program of `configuration` with `model`."""
        return _kept(self._bound, (configuration.digest, model), lambda: self._bind(configuration, model))

    def _bind(self, configuration: Configuration, model: ModelSpec) -> BoundProgram:
        # A model may be for one rollout. New instructions make a new signature, which takes longer than a copy.
        applied = _kept(self._applied, configuration.digest, lambda: self._space.apply(configuration, self._student))
        module: Any = copied(applied)
        names = {id(predictor): name for name, predictor in module.named_predictors()}
        for name, predictor in _all_predictors(module).items():
            # Predictors of frozen sub-modules are no part of the configuration: `set_lm` passes them by, too.
            tuned = id(predictor) in names
            own = self._own[name] if predictor.lm is None else predictor.lm  # What the configuration chose comes first.
            predictor.lm = self._lm_for(names.get(id(predictor), name), own, model, tuned=tuned)
        return BoundProgram(module, names)

    def _lm_for(self, name: str, own: Any, model: ModelSpec, *, tuned: bool) -> Any:
        """What the predictor is to use; None for the default LM of the context."""
        if tuned and not model.is_student_lm:
            return self._governed(self._pool[model.lm], model)
        if own is not None:
            return self._governed(own, model if tuned else ModelSpec())
        if self.default_lm is None:
            raise NoLMError(
                f"predictor {name!r} has no LM: give it one, pass lm=dspy.LM(…), or set one with dspy.configure(lm=…)"
            )
        return self._governed(self._pool[STUDENT_LM], model) if tuned and model != ModelSpec() else None

    def _governed(self, lm: Any, model: ModelSpec) -> Any:
        key = (id(lm), model)
        if key not in self._lms:
            if len(self._lms) > PROGRAMS_KEPT:
                self._lms.clear()
            self._lms[key] = governed(lm, self._governor, caller=self._caller, threads=self._threads, **_changes(model))
        return self._lms[key]


def _kept(known: OrderedDict[Key, Value], key: Key, make: Callable[[], Value]) -> Value:
    """What is known by `key`, made where nothing is; of what is known, that used last is kept."""
    if key not in known:
        known[key] = make()
        if len(known) > PROGRAMS_KEPT:
            known.popitem(last=False)
    known.move_to_end(key)
    return known[key]


def _changes(model: ModelSpec) -> dict[str, Any]:
    settings = {"rollout_id": model.rollout_id, "temperature": model.temperature}
    return {name: value for name, value in settings.items() if value is not None}


def _all_predictors(module: Any) -> dict[str, Any]:
    """Every predictor, those of frozen sub-modules included, by the path that leads to it."""
    return dict(module.named_sub_modules(dspy.Predict))
