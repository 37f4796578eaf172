"""Configurations of a dspy.Module: what can be optimized in it, taken out, changed, and put into a copy."""

from simba_actors.programs.configuration import Configuration, Demo
from simba_actors.programs.space import ConfigurationSpace, Variable
from simba_actors.programs.values import revive, to_json_value

__all__ = ["Configuration", "ConfigurationSpace", "Demo", "Variable", "revive", "to_json_value"]
