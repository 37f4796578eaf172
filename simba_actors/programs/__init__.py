"""Configurations of a dspy.Module: extract one, change it, and apply it to a copy of the module."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simba_actors.programs.configuration import Configuration, Demo
    from simba_actors.programs.space import ConfigurationSpace
    from simba_actors.programs.state_file import load, save
    from simba_actors.programs.values import revive, to_json_value
    from simba_actors.programs.variables import Choice, Float, Integer, Text, Variable

__all__ = [
    "Choice",
    "Configuration",
    "ConfigurationSpace",
    "Demo",
    "Float",
    "Integer",
    "Text",
    "Variable",
    "load",
    "revive",
    "save",
    "to_json_value",
]

_MODULES = {
    "Choice": "variables",
    "Configuration": "configuration",
    "ConfigurationSpace": "space",
    "Demo": "configuration",
    "Float": "variables",
    "Integer": "variables",
    "Text": "variables",
    "Variable": "variables",
    "load": "state_file",
    "revive": "values",
    "save": "state_file",
    "to_json_value": "values",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: the command line compares configurations without DSPy."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
