"""The JSON that `dspy.Module.load` reads, made from a configuration alone, where the student's code is not at hand."""

from __future__ import annotations

from typing import Any

from dspy.utils.saving import get_dependency_versions

from simba_actors.programs.configuration import Configuration
from simba_actors.programs.saved_state import SETTINGS
from simba_actors.search.trajectory import JSON

ONLY_PREDICTOR = "self"
"""DSPy's name for a student that is a predictor itself, whose file has no names in it."""


def module_state(configuration: Configuration) -> dict[str, JSON]:
    """What `student.load(path)` reads from a JSON file to get `configuration`.

    Fields keep the student's own descriptions, and predictors run with DSPy's default LM. Settings of LMs, which DSPy
    does not load, are where `simba_actors.programs.load` looks for them.
    """
    states: dict[str, JSON] = {name: _predictor_state(configuration, name) for name in configuration.predictors}
    if configuration.predictors == (ONLY_PREDICTOR,):
        states = _predictor_state(configuration, ONLY_PREDICTOR)
    versions: Any = get_dependency_versions()
    settings: dict[str, JSON] = {SETTINGS: dict(configuration.settings)} if configuration.settings else {}
    return {**states, "metadata": {"dependency_versions": versions, **settings}}


def _predictor_state(configuration: Configuration, name: str) -> dict[str, JSON]:
    return {
        "traces": [],
        "train": [],
        "demos": [dict(demo) for demo in configuration.demos(name)],
        "signature": {"instructions": configuration.instructions(name), "fields": []},
        "lm": None,
    }
