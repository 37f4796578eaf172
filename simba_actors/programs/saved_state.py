"""Configurations in the JSON that `dspy.Module.save` writes and `dspy.Module.load` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import dspy
import orjson

from simba_actors.errors import MisfitError
from simba_actors.programs.configuration import Configuration
from simba_actors.programs.space import ConfigurationSpace


def save(configuration: Configuration, student: dspy.Module, path: str | Path) -> None:
    """Writes `student` with `configuration` to `path`, which ends in .json; `student.load(path)` reads it."""
    program: Any = ConfigurationSpace.from_module(student).apply(configuration, student)
    program.save(str(path))


def load(path: str | Path, student: dspy.Module) -> Configuration:
    """The configuration in a file that `dspy.Module.save` wrote for such a student.

    Raises:
        MisfitError: The file is for another student; the message names the predictor.
    """
    state = cast("dict[str, Any]", orjson.loads(Path(path).read_bytes()))
    space = ConfigurationSpace.from_module(student)
    for name in space.predictors:
        if name not in state:
            raise MisfitError(f"{path} has no predictor {name!r}; it has {sorted(set(state) - {'metadata'})}")
    return Configuration.of(
        {name: (state[name]["signature"]["instructions"], state[name]["demos"]) for name in space.predictors}
    )
