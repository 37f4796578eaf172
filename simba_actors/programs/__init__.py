"""Configurations of a dspy.Module: what can be optimized in it, taken out, changed, and put into a copy."""

from simba_actors.programs.configuration import Configuration, Demo
from simba_actors.programs.space import ConfigurationSpace
from simba_actors.programs.state_file import load, save
from simba_actors.programs.values import revive, to_json_value
from simba_actors.programs.variables import Choice, Float, Integer, Variable

__all__ = [
    "Choice",
    "Configuration",
    "ConfigurationSpace",
    "Demo",
    "Float",
    "Integer",
    "Variable",
    "load",
    "revive",
    "save",
    "to_json_value",
]
