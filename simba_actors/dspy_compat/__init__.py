"""Everything that uses DSPy beyond its documented API.

A module of this folder either asks DSPy something that has no documented question, or hands it something that it takes
without saying so. `check_dspy` looks whether the installed DSPy still has all of that as this package knows it.
"""

from simba_actors.dspy_compat.contract import MEMBERS, SUPPORTED, Member, check_dspy

__all__ = ["MEMBERS", "SUPPORTED", "Member", "check_dspy"]
