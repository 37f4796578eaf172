"""DSPy's SIMBA as a supervised team of asyncio actors.

from simba_actors import Optimizer, OptimizerConfig

config = OptimizerConfig(student=program, metric=metric, trainset=trainset, store="simba.db")
async with await Optimizer.start(config) as optimizer:
    result = await optimizer.result()
result.program.save("best.json")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simba_actors.config import OptimizerConfig
    from simba_actors.live import LiveProgram, VariableAware
    from simba_actors.lm.budget import Budget
    from simba_actors.lm.endpoint import Limits
    from simba_actors.lm.governor import Governor
    from simba_actors.lm.retry import Retry
    from simba_actors.optimizer import Optimizer, Status
    from simba_actors.publishing.channel import Channel
    from simba_actors.result import OptimizerResult
    from simba_actors.search.objectives import Pareto, Weighted
    from simba_actors.search.progress import Progress
    from simba_actors.search.stopping import EveryBucketSolved, NoImprovement, TargetReached, Timeout
    from simba_actors.teleprompter import SIMBA

__all__ = [
    "SIMBA",
    "Budget",
    "Channel",
    "EveryBucketSolved",
    "Governor",
    "Limits",
    "LiveProgram",
    "NoImprovement",
    "Optimizer",
    "OptimizerConfig",
    "OptimizerResult",
    "Pareto",
    "Progress",
    "Retry",
    "Status",
    "TargetReached",
    "Timeout",
    "VariableAware",
    "Weighted",
]

_HOMES = {
    "SIMBA": "simba_actors.teleprompter",
    "Budget": "simba_actors.lm.budget",
    "Channel": "simba_actors.publishing.channel",
    "EveryBucketSolved": "simba_actors.search.stopping",
    "NoImprovement": "simba_actors.search.stopping",
    "TargetReached": "simba_actors.search.stopping",
    "Timeout": "simba_actors.search.stopping",
    "Pareto": "simba_actors.search.objectives",
    "Weighted": "simba_actors.search.objectives",
    "Progress": "simba_actors.search.progress",
    "LiveProgram": "simba_actors.live",
    "VariableAware": "simba_actors.live",
    "Governor": "simba_actors.lm.governor",
    "Limits": "simba_actors.lm.endpoint",
    "Optimizer": "simba_actors.optimizer",
    "OptimizerConfig": "simba_actors.config",
    "OptimizerResult": "simba_actors.result",
    "Retry": "simba_actors.lm.retry",
    "Status": "simba_actors.optimizer",
}


def __getattr__(name: str) -> Any:
    """Imports what is asked for when it is asked for, since DSPy takes seconds to import."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
