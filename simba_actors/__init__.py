"""DSPy's SIMBA as a supervised team of asyncio actors.

from simba_actors import Optimizer, OptimizerConfig

config = OptimizerConfig(student=program, metric=metric, trainset=trainset, store="simba.db")
async with Optimizer.start(config) as optimizer:
    result = await optimizer.result()
result.program.save("best.json")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simba_actors import errors, events
    from simba_actors.bridge.remote_student import RemoteStudent
    from simba_actors.config import Metric, OptimizerConfig
    from simba_actors.estimate import Estimate
    from simba_actors.evaluation.on_ray.executor import RayExecutor
    from simba_actors.held_out import Evaluation, evaluate
    from simba_actors.live.calls import LiveCall
    from simba_actors.live.program import LiveProgram, VariableAware
    from simba_actors.live.router import LiveState
    from simba_actors.lm.budget import Budget
    from simba_actors.lm.governor import Governor
    from simba_actors.lm.limits import Limits
    from simba_actors.lm.retry import Retry
    from simba_actors.optimizer import Optimizer
    from simba_actors.programs.configuration import Configuration
    from simba_actors.programs.space import ConfigurationSpace
    from simba_actors.programs.variables import Choice, Float, Integer, Text
    from simba_actors.publishing.channel import Channel, Source
    from simba_actors.publishing.online_examples import OnlineExample
    from simba_actors.publishing.publications import Publication, Served
    from simba_actors.result import Finalist, OptimizerResult
    from simba_actors.search.objectives import Pareto, Weighted
    from simba_actors.search.progress import Progress, StepProgress
    from simba_actors.search.stopping import EveryBucketSolved, NoImprovement, NothingToGain, TargetReached, Timeout
    from simba_actors.status import Status
    from simba_actors.store.queries.score_queries import Standing
    from simba_actors.strategies.append_a_demo import AppendADemo
    from simba_actors.strategies.append_a_rule import AppendARule
    from simba_actors.strategies.append_labeled_demos import AppendLabeledDemos
    from simba_actors.strategies.contract import Declined, Strategy, StrategyContext
    from simba_actors.strategies.learn_from_failures import LearnFromFailures
    from simba_actors.strategies.merge_rules import MergeRules
    from simba_actors.strategies.omit_sentences import OmitSentences
    from simba_actors.strategies.recombine import Recombine
    from simba_actors.strategies.rewrite_texts import RewriteTexts
    from simba_actors.teleprompter import SIMBA
    from simba_actors.transport.security import TLS

    __version__: str

__all__ = [
    "SIMBA",
    "TLS",
    "AppendADemo",
    "AppendARule",
    "AppendLabeledDemos",
    "Budget",
    "Channel",
    "Choice",
    "Configuration",
    "ConfigurationSpace",
    "Declined",
    "Estimate",
    "Evaluation",
    "EveryBucketSolved",
    "Finalist",
    "Float",
    "Governor",
    "Integer",
    "LearnFromFailures",
    "Limits",
    "LiveCall",
    "LiveProgram",
    "LiveState",
    "MergeRules",
    "Metric",
    "NoImprovement",
    "NothingToGain",
    "OmitSentences",
    "OnlineExample",
    "Optimizer",
    "OptimizerConfig",
    "OptimizerResult",
    "Pareto",
    "Progress",
    "Publication",
    "RayExecutor",
    "Recombine",
    "RemoteStudent",
    "Retry",
    "RewriteTexts",
    "Served",
    "Source",
    "Standing",
    "Status",
    "StepProgress",
    "Strategy",
    "StrategyContext",
    "TargetReached",
    "Text",
    "Timeout",
    "VariableAware",
    "Weighted",
    "errors",
    "evaluate",
    "events",
]

_NAMES = {
    "simba_actors.bridge.remote_student": ("RemoteStudent",),
    "simba_actors.config": ("Metric", "OptimizerConfig"),
    "simba_actors.evaluation.on_ray.executor": ("RayExecutor",),
    "simba_actors.estimate": ("Estimate",),
    "simba_actors.held_out": ("Evaluation", "evaluate"),
    "simba_actors.live.router": ("LiveState",),
    "simba_actors.live.calls": ("LiveCall",),
    "simba_actors.live.program": ("LiveProgram", "VariableAware"),
    "simba_actors.lm.budget": ("Budget",),
    "simba_actors.lm.limits": ("Limits",),
    "simba_actors.lm.governor": ("Governor",),
    "simba_actors.lm.retry": ("Retry",),
    "simba_actors.optimizer": ("Optimizer",),
    "simba_actors.programs.configuration": ("Configuration",),
    "simba_actors.programs.space": ("ConfigurationSpace",),
    "simba_actors.programs.variables": (
        "Choice",
        "Float",
        "Integer",
        "Text",
    ),
    "simba_actors.publishing.channel": (
        "Channel",
        "Source",
    ),
    "simba_actors.publishing.online_examples": ("OnlineExample",),
    "simba_actors.publishing.publications": (
        "Publication",
        "Served",
    ),
    "simba_actors.result": (
        "Finalist",
        "OptimizerResult",
    ),
    "simba_actors.search.objectives": (
        "Pareto",
        "Weighted",
    ),
    "simba_actors.search.progress": ("Progress", "StepProgress"),
    "simba_actors.search.stopping": (
        "EveryBucketSolved",
        "NoImprovement",
        "NothingToGain",
        "TargetReached",
        "Timeout",
    ),
    "simba_actors.store.queries.score_queries": ("Standing",),
    "simba_actors.status": ("Status",),
    "simba_actors.strategies.append_a_demo": ("AppendADemo",),
    "simba_actors.strategies.append_a_rule": ("AppendARule",),
    "simba_actors.strategies.append_labeled_demos": ("AppendLabeledDemos",),
    "simba_actors.strategies.contract": (
        "Declined",
        "Strategy",
        "StrategyContext",
    ),
    "simba_actors.strategies.learn_from_failures": ("LearnFromFailures",),
    "simba_actors.strategies.merge_rules": ("MergeRules",),
    "simba_actors.strategies.omit_sentences": ("OmitSentences",),
    "simba_actors.strategies.recombine": ("Recombine",),
    "simba_actors.strategies.rewrite_texts": ("RewriteTexts",),
    "simba_actors.teleprompter": ("SIMBA",),
    "simba_actors.transport.security": ("TLS",),
}
"""The public names of each module."""

_MODULES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, since DSPy takes seconds to import."""
    if name == "__version__":
        return import_module("importlib.metadata").version("simba_actors")
    if name in ("errors", "events"):
        return import_module(f"simba_actors.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    if hasattr(value, "__dataclass_fields__"):
        from simba_actors.class_help import add_field_docs

        add_field_docs(value)
    globals()[name] = value  # Later accesses do not come here.
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
