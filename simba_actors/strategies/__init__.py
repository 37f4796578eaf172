"""Strategies: ways to make a new configuration from the trajectories of a step."""

from simba_actors.strategies.append_a_demo import AppendADemo
from simba_actors.strategies.append_a_rule import AppendARule
from simba_actors.strategies.append_labeled_demos import AppendLabeledDemos
from simba_actors.strategies.contract import Declined, PromptModel, Strategy, StrategyContext
from simba_actors.strategies.learn_from_failures import LearnFromFailures
from simba_actors.strategies.merge_rules import MergeRules
from simba_actors.strategies.omit_sentences import OmitSentences
from simba_actors.strategies.recombine import Recombine
from simba_actors.strategies.rewrite_texts import RewriteTexts

__all__ = [
    "AppendADemo",
    "AppendARule",
    "AppendLabeledDemos",
    "Declined",
    "LearnFromFailures",
    "MergeRules",
    "OmitSentences",
    "PromptModel",
    "Recombine",
    "RewriteTexts",
    "Strategy",
    "StrategyContext",
]
