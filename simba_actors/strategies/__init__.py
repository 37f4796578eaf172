"""Strategies: how a new configuration is made from what a step's buckets show."""

from simba_actors.strategies.append_a_demo import AppendADemo
from simba_actors.strategies.append_a_rule import AppendARule
from simba_actors.strategies.contract import Declined, PromptModel, Strategy, StrategyContext

__all__ = ["AppendADemo", "AppendARule", "Declined", "PromptModel", "Strategy", "StrategyContext"]
