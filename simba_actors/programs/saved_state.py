"""Configurations in the JSON that `dspy.Module.save` writes and `dspy.Module.load` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import dspy
import orjson

from simba_actors.errors import MisfitError
from simba_actors.programs.configuration import Configuration
from simba_actors.programs.space import ConfigurationSpace
from simba_actors.programs.variables import DEMOS, INSTRUCTIONS, Variable
from simba_actors.search.trajectory import JSON

SETTINGS = "simba_actors_settings"
"""Where in the file's metadata the LM settings are, which DSPy does not save."""


def save(
    configuration: Configuration, student: dspy.Module, path: str | Path, space: ConfigurationSpace | None = None
) -> None:
    """Writes `student` with `configuration` to `path`, which ends in .json; `student.load(path)` reads it.

    `space` is needed where the configuration has LM settings.
    """
    space = space or ConfigurationSpace.from_module(student)
    program: Any = space.apply(configuration, student)
    program.save(str(path))
    if space.settings:
        state = cast("dict[str, Any]", orjson.loads(Path(path).read_bytes()))
        state["metadata"][SETTINGS] = {name: configuration.values[name] for name in space.settings}
        Path(path).write_bytes(orjson.dumps(state, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def load(path: str | Path, student: dspy.Module, space: ConfigurationSpace | None = None) -> Configuration:
    """The configuration in a file that `dspy.Module.save` wrote for such a student.

    Raises:
        MisfitError: The file is for another student, or no such file; the message names the predictor.
    """
    space = space or ConfigurationSpace.from_module(student)
    try:
        state = cast("dict[str, Any]", orjson.loads(Path(path).read_bytes()))
        if isinstance(student, dspy.Predict) and "signature" in state:
            state = {"self": state, "metadata": state["metadata"]}  # A predictor's own file has no names in it.
        for name in space.predictors:
            if name not in state:
                raise MisfitError(f"{path} has no predictor {name!r}; it has {sorted(set(state) - {'metadata'})}")
        configuration = Configuration({variable.name: _value(state, variable) for variable in space.variables})
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise MisfitError(f"{path} is no JSON file that dspy.Module.save wrote: {error!r}") from error
    space.validate(configuration)
    return configuration


def _value(state: dict[str, Any], variable: Variable) -> JSON:
    match variable.attribute:
        case attribute if attribute == INSTRUCTIONS:
            return state[variable.predictor]["signature"]["instructions"]
        case attribute if attribute == DEMOS:
            return state[variable.predictor]["demos"]
        case _:
            return state.get("metadata", {}).get(SETTINGS, {}).get(variable.name)
