"""Copies of the student, ready to run: a fresh one for each rollout."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from threading import Lock
from typing import Any, TypeVar, cast

import dspy

from simba_actors.dspy_compat.predictor_names import PredictorNames, tell_apart
from simba_actors.errors import NoLMError
from simba_actors.lm.governed_lm import default_of_threads, governed
from simba_actors.lm.governor import Caller, Governor
from simba_actors.programs import Configuration, ConfigurationSpace
from simba_actors.programs.copying import Copier
from simba_actors.programs.object_graph import lms_within
from simba_actors.runtime.threads import Threads
from simba_actors.search.rollout import STUDENT_LM, ModelSpec

Key = TypeVar("Key")
Value = TypeVar("Value")

PROGRAMS_KEPT = 64
"""Number of applied configurations that are kept, and of choices of LMs for each. A step with `dspy.SIMBA`'s defaults
uses fewer."""

MOST_PARTS_ON_LOOP = 64
"""Maximum number of objects in a student whose programs are made on the event loop: about 8 predictors.

Applying a configuration takes about 40 µs for each object and demo. That is 3 ms here, and 7 ms with 16 demos for each
predictor. A larger student's programs are made in a thread, which adds 0.1 ms to each rollout.
"""


@dataclass(frozen=True, slots=True)
class BoundProgram:
    """A copy of the student with one configuration and model, for one rollout."""

    module: Any
    names: PredictorNames


@dataclass(frozen=True, slots=True)
class _Applied:
    """The student with a configuration. It is never run: rollouts run copies of it."""

    copier: Copier
    names: PredictorNames
    predictors: Mapping[str, Any]
    """All predictors by path: DSPy looks for them in everything that the student holds."""
    tuned: Mapping[int, str]
    """Names of the predictors that are optimized, by `id`."""
    chosen: OrderedDict[ModelSpec, Mapping[int, Any]] = field(default_factory=OrderedDict[ModelSpec, Mapping[int, Any]])
    """The LM of each predictor, by the predictor's `id`, for each of the models that were used last."""


@dataclass(frozen=True, slots=True)
class StudentCopy:
    """A copy of a student whose predictors have no LM.

    Making it takes about a second for 2,000 predictors, so a host's event loop should leave it to a thread.
    """

    module: dspy.Module
    """The copy. It is never run or changed."""
    lms: Mapping[str, Any]
    """The LM of each of the student's predictors by path."""
    other_lms: Sequence[Any]
    """The LMs that the copy holds elsewhere, such as a judge's."""
    parts: int
    """Number of objects that were copied."""

    @classmethod
    def of(cls, student: dspy.Module) -> StudentCopy:
        """Return a copy of `student`.

        Raises:
            ConfigError: One of the student's predictors can't be copied; the message names it.
        """
        clone, parts = Copier(student).copy()
        lms = {path: predictor.lm for path, predictor in _all_predictors(student).items()}
        for predictor in _all_predictors(clone).values():
            predictor.lm = None
        return cls(clone, lms, lms_within(clone), len(parts))


class Programs:
    """Makes the program of each rollout.

    Each rollout gets a copy of its own, so that what a student keeps on `self` during a call never reaches another
    example.

    Args:
        student: Its LMs are used by all programs, through governed copies of them.
        space: The student's.
        lms: The run's model pool. The student's LM is for predictors without an LM of their own; the others take the
            place of every optimized predictor's LM.
    """

    def __init__(
        self,
        student: StudentCopy,
        space: ConfigurationSpace,
        lms: Mapping[str, Any],
        governor: Governor,
        caller: Caller,
        threads: Threads,
    ) -> None:
        self._space = space
        self._pool = lms
        self._governor, self._caller, self._threads = governor, caller, threads
        self._loop = asyncio.get_running_loop()
        self._is_small = student.parts <= MOST_PARTS_ON_LOOP
        self._lock = Lock()
        """Held while a program is made. One thread at a time is as fast, and keeps the event loop waiting for one."""
        self._lms: dict[tuple[int, ModelSpec], Any] = {}
        self._own = student.lms
        self._copy = student.module
        self._other_lms = {id(lm): self._governed(lm, ModelSpec()) for lm in student.other_lms}
        self._applied: OrderedDict[str, _Applied] = OrderedDict()
        self.default_lm = self._governed(lms[STUDENT_LM], ModelSpec()) if lms.get(STUDENT_LM) is not None else None
        self._default_of_threads = None if self.default_lm is None else default_of_threads(self.default_lm)

    async def bound(self, configuration: Configuration, model: ModelSpec) -> BoundProgram:
        """Return a fresh program of `configuration` with `model`. A large student's is made in a thread."""
        if self._is_small:
            return self._bound(configuration, model)
        return await self._threads.run(partial(self._bound, configuration, model))

    def _bound(self, configuration: Configuration, model: ModelSpec) -> BoundProgram:
        with self._lock:
            applied = _kept(self._applied, configuration.digest, lambda: self._apply(configuration))
            chosen = _kept(applied.chosen, model, lambda: self._choose_lms(applied, model))
            module, copy_of = applied.copier.copy()
            for predictor, lm in chosen.items():
                copy_of[predictor].lm = lm
            return BoundProgram(module, applied.names)

    @cached_property
    def _student(self) -> dspy.Module:
        """The student with governed copies of the LMs that it holds beside its predictors."""
        return Copier(self._copy, self._other_lms).copy()[0] if self._other_lms else self._copy

    def _apply(self, configuration: Configuration) -> _Applied:
        program = self._space.apply(configuration, self._student)
        tell_apart(program)
        named = dict(cast("list[tuple[str, Any]]", program.named_predictors()))
        tuned = {id(named[name]): name for name in self._space.predictors}
        names = PredictorNames(program, self._space.predictors)
        return _Applied(Copier(program), names, _all_predictors(program), tuned)

    def _choose_lms(self, applied: _Applied, model: ModelSpec) -> Mapping[int, Any]:
        """Return the LM of each predictor by the predictor's `id`."""
        chosen: dict[int, Any] = {}
        for path, predictor in applied.predictors.items():
            # Frozen predictors are not part of the configuration; `set_lm` skips them, too.
            name = applied.tuned.get(id(predictor))
            own = self._own[path] if predictor.lm is None else predictor.lm  # What the configuration chose comes first.
            # At temperature 0 a rollout id has no effect, and DSPy would warn about it at the first call.
            greedy = predictor.config.get("temperature") == 0
            spec = replace(model, rollout_id=None) if greedy else model
            chosen[id(predictor)] = self._lm_for(name or path, own, spec, tuned=name is not None)
        return chosen

    def _lm_for(self, name: str, own: Any, model: ModelSpec, *, tuned: bool) -> Any:
        """Return the LM for the predictor to use, or one that stands for the default LM of the context."""
        if tuned and not model.is_student_lm:
            return self._governed(self._pool[model.lm], model)
        if own is not None:
            return self._governed(own, model if tuned else ModelSpec())
        if self.default_lm is None:
            raise NoLMError(
                f"predictor {name!r} has no LM: give it one, pass lm=dspy.LM(…), or set one with dspy.configure(lm=…)"
            )
        is_sampling = tuned and model != ModelSpec()
        return self._governed(self._pool[STUDENT_LM], model) if is_sampling else self._default_of_threads

    def _governed(self, lm: Any, model: ModelSpec) -> Any:
        key = (id(lm), model)
        if key not in self._lms:
            if len(self._lms) > PROGRAMS_KEPT:
                self._lms.clear()
            self._lms[key] = governed(
                lm, self._governor, caller=self._caller, threads=self._threads, loop=self._loop, **_changes(model)
            )
        return self._lms[key]


def _kept(known: OrderedDict[Key, Value], key: Key, make: Callable[[], Value]) -> Value:
    """Return the value of `key`, making it if it is new. Only the values used last are kept."""
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
    """Return every predictor by path, including those of frozen sub-modules."""
    return dict(module.named_sub_modules(dspy.Predict))
