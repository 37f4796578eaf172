"""The configuration space of a student: extract its configuration, and apply one to a copy."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any, cast

import dspy

from simba_actors.errors import ConfigError, MisfitError, NoPredictorsError
from simba_actors.programs import texts
from simba_actors.programs.configuration import Configuration, Demo
from simba_actors.programs.copying import copied, predictors_of
from simba_actors.programs.values import json_fields, revive_savable
from simba_actors.programs.variables import (
    DEMOS,
    INSTRUCTIONS,
    LM,
    Choice,
    Demos,
    Setting,
    Text,
    Variable,
    is_one_of,
    split_name,
)
from simba_actors.search.rollout import JSON


@dataclass(frozen=True, slots=True)
class ConfigurationSpace:
    """The variables of a student.

    space = ConfigurationSpace.from_module(student)
    configuration = space.extract(student)
    better = space.apply(configuration.with_instructions("answer", "Be brief."), student)

    """

    fields: Mapping[str, Mapping[str, Any]]
    """The fields of each predictor, with their types, by the predictor's name as in `named_predictors()`."""
    settings: Mapping[str, Setting] = field(default_factory=dict[str, Setting])
    """The possible values of each LM setting or text, by full name, as in "answer.temperature"."""
    lms: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The LMs that a setting such as "answer.lm" names."""

    @classmethod
    def from_module(
        cls,
        student: dspy.Module,
        settings: Mapping[str, Setting] | None = None,
        lms: Mapping[str, Any] | None = None,
        optimize: Collection[str] | None = None,
    ) -> ConfigurationSpace:
        """Return the space of `student`: each predictor's instructions and demos, and settings if any are named.

            ConfigurationSpace.from_module(
                student,
                settings={
                    "answer.temperature": Float(0.0, 1.5),
                    "answer.lm": Choice(("small", "large")),
                    "answer.question.desc": Text(),
                },
                lms={"small": dspy.LM(…), "large": dspy.LM(…)},
            )

        Settings are those of the LM, descriptions of fields, and texts that the student holds (see `Text`).

        `optimize` names the predictors to optimize, as in `named_predictors()`; by default all. The others run as they
        are, like those of sub-modules that are frozen by `_compiled=True`.

        Raises:
            NoPredictorsError: There is nothing to optimize.
            ConfigError: `optimize` or a setting names a predictor, a field or a text that the student does not have, a
                setting names an LM that `lms` does not have, or `when` of a choice does not name another setting.
        """
        fields = {name: _annotations(predictor) for name, predictor in predictors_of(student).items()}
        if optimize is not None:
            _check_optimize(optimize, fields)
            fields = {name: annotations for name, annotations in fields.items() if name in optimize}
        if not fields:
            raise NoPredictorsError(f"{type(student).__name__} has no predictors, so there is nothing to optimize")
        for name, setting in (settings or {}).items():
            if isinstance(setting, Text):
                _check_text(name, fields, student)
            else:
                _check_setting(name, setting, fields, lms or {})
                _check_when(name, setting, settings or {})
        _check_order(settings or {})
        return cls(fields, dict(settings or {}), dict(lms or {}))

    @property
    def predictors(self) -> tuple[str, ...]:
        """Names of the predictors that are optimized."""
        return tuple(self.fields)

    @property
    def texts(self) -> tuple[str, ...]:
        """Full names of the texts that a search may rewrite, besides instructions."""
        return tuple(name for name, setting in self.settings.items() if isinstance(setting, Text))

    @property
    def variables(self) -> tuple[Variable, ...]:
        """Everything that a configuration sets, in its order: instructions, demos and settings."""
        found: list[Variable] = []
        for predictor, fields in self.fields.items():
            found.append(Variable(predictor, INSTRUCTIONS, Text()))
            found.append(Variable(predictor, DEMOS, Demos(tuple(fields))))
        for name, setting in self.settings.items():
            found.append(Variable(*split_name(name), setting))
        return tuple(found)

    def extract(self, student: dspy.Module) -> Configuration:
        """Return the configuration of the student, or of a copy of it.

        Raises:
            MisfitError: The student lacks a predictor of this space, or one has other fields; the message names it.
        """
        predictors = predictors_of(student)
        for name, fields in self.fields.items():
            if name not in predictors:
                raise MisfitError(f"{type(student).__name__} has no predictor {name!r}; it has {sorted(predictors)}")
            found = _annotations(predictors[name])
            if set(found) != set(fields):
                raise MisfitError(
                    f"predictor {name!r} has the fields {sorted(found)}, but the space is for {sorted(fields)}"
                )
        return Configuration({v.name: self._extract(v, student, predictors) for v in self.variables})

    def unoptimized(self, student: dspy.Module) -> Configuration:
        """Return the instructions and demos of the student's predictors that are not part of this space."""
        predictors = predictors_of(student)
        others = {name: _annotations(found) for name, found in predictors.items() if name not in self.fields}
        return ConfigurationSpace(others).extract(student)

    def validate(self, configuration: Configuration) -> None:
        """Check that `configuration` belongs to this space.

        Raises:
            MisfitError: It is for another student; the message names the predictor or the variable that does not fit.
            NotJSONError: A value is not plain JSON.
        """
        known = {variable.name: variable for variable in self.variables}
        for name in configuration.values:
            if name not in known:
                raise MisfitError(f"the student has no variable {name!r}; it has {sorted(known)}")
        for name, variable in known.items():
            if name not in configuration.values:
                raise MisfitError(
                    f"the configuration has no {variable.attribute} for predictor {variable.predictor!r}; it has "
                    f"{sorted(configuration.values)}"
                )
            problem = variable.domain.problem(configuration.values[name])
            if problem is not None:
                raise MisfitError(f"{variable.attribute} of predictor {variable.predictor!r}: {problem}")
        configuration.check_json()

    def without_unmet(self, configuration: Configuration, student: Configuration) -> Configuration:
        """Return the configuration with the student's value for each choice whose condition `when` it does not meet."""
        for _ in self.settings:  # Another choice may depend on one that was reset.
            unmet = [
                name
                for name, setting in self.settings.items()
                if isinstance(setting, Choice)
                and configuration.values[name] != student.values[name]
                and not all(is_one_of(configuration.values[other], values) for other, values in setting.when.items())
            ]
            if not unmet:
                break
            for name in unmet:
                configuration = configuration.with_setting(name, student.values[name])
        return configuration

    def narrowed_to(self, configuration: Configuration) -> ConfigurationSpace:
        """Return the part of this space that `configuration` covers: a run may optimize some predictors only.

        Return all of it for a configuration of other predictors, so that errors name those that the student has.
        """
        if not self.fields.keys() >= set(configuration.predictors):
            return self
        fields = {name: fields for name, fields in self.fields.items() if name in configuration.predictors}
        others = self.fields.keys() - fields
        settings = {name: setting for name, setting in self.settings.items() if split_name(name)[0] not in others}
        return replace(self, fields=fields, settings=settings)

    def apply(self, configuration: Configuration, student: dspy.Module) -> dspy.Module:
        """Return a copy of `student` with `configuration`. The student is not changed, and the copy uses its LMs.

        Demos become `dspy.Example`s with values of the types that the signature gives. Types that DSPy can't save, such
        as sets, stay JSON, which prompts show in the same way. LM settings are put into a predictor's `config`, which
        takes precedence over the settings of its LM.

        Raises:
            MisfitError, NotJSONError: See `validate`.
        """
        self.validate(configuration)
        program = copied(student)
        predictors = predictors_of(program)
        for variable in self.variables:
            self._apply(variable, configuration.values[variable.name], program, predictors)
        return program

    def _extract(self, variable: Variable, student: dspy.Module, predictors: Mapping[str, Any]) -> JSON:
        if variable.name in self.texts:
            return texts.text_in(student, predictors, variable)
        predictor = predictors[variable.predictor]
        match variable.attribute:
            case "instructions":
                return cast("str", predictor.signature.instructions)
            case "demos":
                return [json_fields(demo) for demo in predictor.demos]
            case "lm":
                return next((name for name, lm in self.lms.items() if lm is predictor.lm), None)
            case setting:
                return cast("JSON", predictor.config.get(setting))

    def _apply(self, variable: Variable, value: Any, program: dspy.Module, predictors: Mapping[str, Any]) -> None:
        if variable.name in self.texts:
            texts.set_text(program, predictors, variable, value)
            return
        predictor = predictors[variable.predictor]
        match variable.attribute:
            case "instructions":
                if predictor.signature.instructions != value:
                    predictor.signature = predictor.signature.with_instructions(value)
            case "demos":
                predictor.demos = [self._example(variable.predictor, demo) for demo in value]
            case "lm":
                predictor.lm = predictor.lm if value is None else self.lms[value]
            case setting:
                others = {name: kept for name, kept in predictor.config.items() if name != setting}
                predictor.config = others if value is None else {**others, setting: value}

    def _example(self, predictor: str, demo: Demo) -> dspy.Example:
        types = self.fields[predictor]
        return dspy.Example({name: revive_savable(value, types.get(name, Any)) for name, value in demo.items()})


def _annotations(predictor: Any) -> dict[str, Any]:
    return {name: field.annotation for name, field in predictor.signature.fields.items()}


def _check_optimize(optimize: object, predictors: Mapping[str, Any]) -> None:
    if isinstance(optimize, str) or not isinstance(optimize, Collection):
        raise ConfigError(f"optimize={optimize!r:.80} must be a list of predictors' names, as in ['answer']")
    unknown = [name for name in cast("Collection[object]", optimize) if name not in predictors]
    if unknown:
        raise ConfigError(f"optimize names {unknown}, which the student does not have; it has {sorted(predictors)}")


def _check_setting(name: str, setting: Setting, predictors: Mapping[str, Any], lms: Mapping[str, Any]) -> None:
    predictor, attribute = split_name(name)
    if predictor not in predictors:
        raise ConfigError(f"setting {name!r} names no predictor of the student; it has {sorted(predictors)}")
    if attribute in (INSTRUCTIONS, DEMOS):
        raise ConfigError(f"setting {name!r}: {attribute} are always optimized, and are not a setting")
    if attribute == LM and not (isinstance(setting, Choice) and all(option in list(lms) for option in setting.options)):
        raise ConfigError(f"setting {name!r} must be a Choice of the names in lms, {sorted(lms)}, not {setting!r}")


def _check_when(name: str, setting: Setting, settings: Mapping[str, Setting]) -> None:
    if not isinstance(setting, Choice):
        return
    if not isinstance(cast("object", setting.when), Mapping):
        raise ConfigError(f"setting {name!r}: when={setting.when!r:.80} must map names of settings to tuples of values")
    for other, values in setting.when.items():
        if other not in settings or other == name:
            others = sorted(settings.keys() - {name})
            raise ConfigError(f"setting {name!r} depends on {other!r}, which must be another setting: {others}")
        if not isinstance(cast("object", values), list | tuple) or not values:
            raise ConfigError(f"setting {name!r}: when[{other!r}] must be a tuple of values, not {values!r:.80}")
        for value in values:
            if (problem := settings[other].problem(value)) is not None:
                raise ConfigError(f"setting {name!r}: when[{other!r}] {problem}")


def _check_order(settings: Mapping[str, Setting]) -> None:
    """Raise ConfigError if settings depend on each other in a circle: none of them would ever be tried."""
    others = {name: setting.when for name, setting in settings.items() if isinstance(setting, Choice)}
    try:
        TopologicalSorter(others).prepare()
    except CycleError as error:
        raise ConfigError(f"settings depend on each other in a circle: {' on '.join(error.args[1][::-1])}") from None


def _check_text(name: str, predictors: Mapping[str, Mapping[str, Any]], student: dspy.Module) -> None:
    try:
        found = texts.text_in(student, predictors_of(student), Variable(*split_name(name), Text()))
    except MisfitError as error:
        raise ConfigError(f"text {name!r}: {error}") from None
    if not isinstance(found, str):
        raise ConfigError(f"text {name!r}: the student has {found!r:.80} there, which is not a string")


def check_space(space: object) -> None:
    """Raise ConfigError unless `space` is a ConfigurationSpace or None."""
    if space is not None and not isinstance(space, ConfigurationSpace):
        raise ConfigError(
            f"space must be a ConfigurationSpace, as in ConfigurationSpace.from_module(student), not {space!r:.80}"
        )
