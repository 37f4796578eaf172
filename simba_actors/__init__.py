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
    from simba_actors.algorithm.objectives import Pareto, Weighted
    from simba_actors.algorithm.progress import Progress
    from simba_actors.algorithm.stopping import EveryBucketSolved, NoImprovement, TargetReached, Timeout
    from simba_actors.budget import Budget
    from simba_actors.config import OptimizerConfig
    from simba_actors.live import Channel, LiveProgram, VariableAware
    from simba_actors.optimizer import Optimizer, Status
    from simba_actors.result import OptimizerResult
    from simba_actors.rollouts import Governor, Limits, Retry
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
    "Budget": "simba_actors.budget",
    "Channel": "simba_actors.live",
    "EveryBucketSolved": "simba_actors.algorithm.stopping",
    "NoImprovement": "simba_actors.algorithm.stopping",
    "TargetReached": "simba_actors.algorithm.stopping",
    "Timeout": "simba_actors.algorithm.stopping",
    "Pareto": "simba_actors.algorithm.objectives",
    "Weighted": "simba_actors.algorithm.objectives",
    "Progress": "simba_actors.algorithm.progress",
    "LiveProgram": "simba_actors.live",
    "VariableAware": "simba_actors.live",
    "Governor": "simba_actors.rollouts",
    "Limits": "simba_actors.rollouts",
    "Optimizer": "simba_actors.optimizer",
    "OptimizerConfig": "simba_actors.config",
    "OptimizerResult": "simba_actors.result",
    "Retry": "simba_actors.rollouts",
    "Status": "simba_actors.optimizer",
}


def __getattr__(name: str) -> Any:
    """Imports what is asked for when it is asked for, since DSPy takes seconds to import."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
