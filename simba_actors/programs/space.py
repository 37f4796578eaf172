"""What can be optimized in a student, how it is taken out, and how it is put into a copy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import dspy

from simba_actors.algorithm.trajectory import JSON
from simba_actors.errors import MisfitError, NoPredictorsError
from simba_actors.programs.configuration import Configuration, Demo
from simba_actors.programs.values import revive, to_json_value


@dataclass(frozen=True, slots=True)
class Variable:
    """One optimizable value: the instructions (text) or the demos (a list of examples) of one predictor."""

    predictor: str
    kind: Literal["instructions", "demos"]

    @property
    def name(self) -> str:
        return f"{self.predictor}.{self.kind}"


@dataclass(frozen=True, slots=True)
class ConfigurationSpace:
    """The variables of a student.

        space = ConfigurationSpace.from_module(student)
        configuration = space.extract(student)
        better = space.apply(configuration.with_instructions("answer", "Be brief."), student)

    `fields` maps each predictor's name, as in `named_predictors()`, to its fields and their types.
    """

    fields: Mapping[str, Mapping[str, Any]]

    @classmethod
    def from_module(cls, student: dspy.Module) -> ConfigurationSpace:
        """The space of `student`.

        Raises:
            NoPredictorsError: There is nothing to optimize.
        """
        fields = {name: _annotations(predictor) for name, predictor in _predictors(student).items()}
        if not fields:
            raise NoPredictorsError(f"{type(student).__name__} has no predictors, so there is nothing to optimize")
        return cls(fields)

    @property
    def predictors(self) -> tuple[str, ...]:
        return tuple(self.fields)

    @property
    def variables(self) -> tuple[Variable, ...]:
        kinds: tuple[Literal["instructions", "demos"], ...] = ("instructions", "demos")
        return tuple(Variable(predictor, kind) for predictor in self.fields for kind in kinds)

    def extract(self, student: dspy.Module) -> Configuration:
        """The student's own configuration."""
        return Configuration.of(
            {
                name: (_instructions(p), [_demo_to_json(demo) for demo in p.demos])
                for name, p in _predictors(student).items()
            }
        )

    def validate(self, configuration: Configuration) -> None:
        """Checks that `configuration` is one of this space.

        Raises:
            MisfitError: It is for another student; the message names the predictor or variable that does not fit.
        """
        for name in self.predictors:
            for kind, type_ in (("instructions", str), ("demos", list)):
                if f"{name}.{kind}" not in configuration.values:
                    raise MisfitError(f"the configuration has no {kind} for predictor {name!r}")
                if not isinstance(configuration.values[f"{name}.{kind}"], type_):
                    raise MisfitError(f"{kind} of predictor {name!r} must be {type_.__name__}")
            for place, demo in enumerate(cast("list[object]", configuration.values[f"{name}.demos"])):
                if not isinstance(demo, dict):
                    raise MisfitError(
                        f"demo {place} of predictor {name!r} must be an object of fields, not {demo!r:.80}"
                    )
        known = {variable.name for variable in self.variables}
        for name in configuration.values:
            if name not in known:
                raise MisfitError(f"the student has no variable {name!r}; it has {sorted(known)}")

    def apply(self, configuration: Configuration, student: dspy.Module) -> dspy.Module:
        """A copy of `student` with `configuration`. The student is not touched, nor is the LM of any predictor.

        Demos become `dspy.Example`s as `dspy.SIMBA` makes them, with values of the types that the signature has.

        Raises:
            MisfitError: See `validate`.
        """
        self.validate(configuration)
        program = student.deepcopy()
        for name, predictor in _predictors(program).items():
            if _instructions(predictor) != configuration.instructions(name):
                predictor.signature = predictor.signature.with_instructions(configuration.instructions(name))
            predictor.demos = [self._example(name, demo) for demo in configuration.demos(name)]
        return program

    def _example(self, predictor: str, demo: Demo) -> dspy.Example:
        types = self.fields[predictor]
        return dspy.Example(**{name: revive(value, types.get(name, Any)) for name, value in demo.items()})


def _predictors(module: dspy.Module) -> dict[str, Any]:
    return dict(cast("list[tuple[str, Any]]", module.named_predictors()))


def _instructions(predictor: Any) -> str:
    return cast("str", predictor.signature.instructions)


def _annotations(predictor: Any) -> dict[str, Any]:
    return {name: field.annotation for name, field in predictor.signature.fields.items()}


def _demo_to_json(demo: Any) -> dict[str, JSON]:
    return {str(name): to_json_value(value) for name, value in dict(demo).items()}
