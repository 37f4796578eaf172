"""Planted worlds: tasks whose LM is simulated, so that the true quality of any program is computed, not sampled."""

from tests.benchmarks.worlds.families import EXAMPLES, FAMILIES, TWINS, world_of
from tests.benchmarks.worlds.lm import world_lm
from tests.benchmarks.worlds.tasks import student_of, train_examples, true_quality
from tests.benchmarks.worlds.world import World

__all__ = [
    "EXAMPLES",
    "FAMILIES",
    "TWINS",
    "World",
    "student_of",
    "train_examples",
    "true_quality",
    "world_lm",
    "world_of",
]
