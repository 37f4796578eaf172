"""Running a program on an example: what counts as a score, what as the program's failure, and what as neither."""

from simba_actors.rollouts.endpoint import Limits, Priority
from simba_actors.rollouts.executor import Executor, LocalExecutor, RolloutTask
from simba_actors.rollouts.governed_lm import endpoint_name, governed
from simba_actors.rollouts.governor import Caller, Fault, Governor, shared_governor
from simba_actors.rollouts.patience import Retry
from simba_actors.rollouts.prompt_model import LocalPromptModel

__all__ = [
    "Caller",
    "Executor",
    "Fault",
    "Governor",
    "Limits",
    "LocalExecutor",
    "LocalPromptModel",
    "Priority",
    "Retry",
    "RolloutTask",
    "endpoint_name",
    "governed",
    "shared_governor",
]
