"""Configurations in the JSON that `dspy.Module.save` writes and `dspy.Module.load` reads."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import cloudpickle
import dspy
import orjson

from simba_actors.errors import MisfitError
from simba_actors.programs.configuration import Configuration
from simba_actors.programs.space import ConfigurationSpace
from simba_actors.programs.values import to_json_value
from simba_actors.programs.variables import DEMOS, INSTRUCTIONS, Variable
from simba_actors.search.rollout import JSON

SETTINGS = "simba_actors_settings"
"""Key of the file's metadata for settings, which DSPy does not save."""

ONLY_PREDICTOR = "self"
"""DSPy's name for a student that is a predictor itself, whose file has no names in it."""


def save(
    configuration: Configuration, student: dspy.Module, path: str | Path, space: ConfigurationSpace | None = None
) -> None:
    """Write `student` with `configuration` to `path`, which ends in .json; `student.load(path)` reads it.

    `space` is needed if the configuration has settings.
    """
    space = space or ConfigurationSpace.from_module(student)
    program: Any = space.apply(configuration, student)
    program.save(str(path))
    if space.settings:
        state = cast("dict[str, Any]", orjson.loads(Path(path).read_bytes()))
        state["metadata"][SETTINGS] = {name: configuration.values[name] for name in space.settings}
        Path(path).write_bytes(orjson.dumps(state, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def load(path: str | Path, student: dspy.Module, space: ConfigurationSpace | None = None) -> Configuration:
    """Return the configuration in a JSON file that `dspy.Module.save` wrote for such a student.

    Raises:
        MisfitError: The file is for another student, or not such a file; the message names the predictor.
        OSError: The file can't be read.
    """
    space = space or ConfigurationSpace.from_module(student)
    try:
        state = cast("dict[str, Any]", orjson.loads(Path(path).read_bytes()))
        if isinstance(student, dspy.Predict) and "signature" in state:
            state = {ONLY_PREDICTOR: state, "metadata": state.get("metadata")}
        for name in space.predictors:
            if name not in state:
                raise MisfitError(f"{path} has no predictor {name!r}; it has {sorted(set(state) - {'metadata'})}")
        configuration = Configuration({variable.name: _value(state, variable) for variable in space.variables})
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise MisfitError(f"{path} is not a JSON file that dspy.Module.save wrote: {error!r}") from error
    space.validate(configuration)
    return configuration


def module_state(configuration: Configuration) -> dict[str, JSON]:
    """Return what `student.load(path)` reads from a JSON file to get `configuration`, without the student's code.

    Fields keep the student's own descriptions, and predictors run with DSPy's default LM. Settings, which DSPy does not
    load, are where `load` looks for them.
    """
    states: dict[str, JSON] = {name: _predictor_state(configuration, name) for name in configuration.predictors}
    if configuration.predictors == (ONLY_PREDICTOR,):
        states = _predictor_state(configuration, ONLY_PREDICTOR)
    versions: dict[str, JSON] = {
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "dspy": dspy.__version__,
        "cloudpickle": ".".join(cloudpickle.__version__.split(".")[:2]),
    }
    settings: dict[str, JSON] = {SETTINGS: dict(configuration.settings)} if configuration.settings else {}
    return {**states, "metadata": {"dependency_versions": versions, **settings}}


def _value(state: dict[str, Any], variable: Variable) -> JSON:
    match variable.attribute:
        case attribute if attribute == INSTRUCTIONS:
            return state[variable.predictor]["signature"]["instructions"]
        case attribute if attribute == DEMOS:
            # JSON allows integers beyond 64 bits, configurations don't.
            return to_json_value(state[variable.predictor]["demos"])
        case _:
            metadata = cast("dict[str, dict[str, JSON]]", state.get("metadata") or {})
            return metadata.get(SETTINGS, {}).get(variable.name)


def _predictor_state(configuration: Configuration, name: str) -> dict[str, JSON]:
    return {
        "traces": [],
        "train": [],
        "demos": [dict(demo) for demo in configuration.demos(name)],
        "signature": {"instructions": configuration.instructions(name), "fields": []},
        "lm": None,
    }
