"""What must stay the same between the lives of one run, and what its default name is made from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, cast

import dspy
import orjson

from simba_actors.algorithm.trajectory import JSON
from simba_actors.config import OptimizerConfig
from simba_actors.programs import Configuration, ConfigurationSpace
from simba_actors.programs.values import contents

SEARCH_SETTINGS = (
    "policy",
    "seed",
    "bsize",
    "num_candidates",
    "max_demos",
    "demo_input_field_maxlen",
    "temperature_for_sampling",
    "temperature_for_candidates",
)
"""Settings that shape the search. Concurrency, timeouts and budgets do not, and may change."""


def fingerprint(
    config: OptimizerConfig, baseline: Configuration, lms: dict[str, Any], space: ConfigurationSpace
) -> dict[str, str]:
    """Digests of the student and the trainset, names of the metric and the LMs, and the settings, by name."""
    metric: Any = config.metric
    parts = {
        "student": f"{type(config.student).__qualname__} {baseline.digest[:16]}",
        "trainset": f"{len(config.trainset)} examples {_digest(_rows(config.trainset))[:16]}",
        "metric": getattr(metric, "__qualname__", type(metric).__qualname__),
        "strategies": " ".join(strategy.name for strategy in config.chosen_strategies()),
    }
    parts.update({name: str(getattr(config, name)) for name in SEARCH_SETTINGS})
    parts["max_steps"] = str(config.steps)
    if config.valset:
        parts["valset"] = f"{len(config.valset)} examples {_digest(_rows(config.valset))[:16]}"
    if config.objectives is not None:
        parts["objectives"] = str(config.objectives)
    parts.update({f"{name} lm": str(lm.model) for name, lm in lms.items()})
    for name, lm in config.sampling_lms.items():
        parts[f"{name} lm"] += f" at temperature {lm.kwargs.get('temperature')}"
    parts.update({f"setting {name}": str(setting) for name, setting in space.settings.items()})
    parts.update({f"setting's {name} lm": str(lm.model) for name, lm in space.lms.items()})
    return parts


def default_run_id(config: OptimizerConfig, parts: dict[str, str]) -> str:
    """The student's class and a digest of everything that must stay the same."""
    return f"{type(config.student).__name__.lower()}-{_digest(dict(parts))[:10]}"


def _rows(examples: Sequence[dspy.Example]) -> JSON:
    rows: list[Any] = [[dict(example), sorted(cast("list[str]", example.inputs().keys()))] for example in examples]
    return contents(rows)


def _digest(value: Any) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()
