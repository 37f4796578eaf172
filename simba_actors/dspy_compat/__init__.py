"""Everything that uses DSPy beyond its documented API.

Each module of this folder uses something of DSPy for which there is no documented way. `check_dspy` checks that the
installed DSPy still has all of it.
"""

from simba_actors.dspy_compat.contract import MEMBERS, SUPPORTED, Member, check_dspy

__all__ = ["MEMBERS", "SUPPORTED", "Member", "check_dspy"]
