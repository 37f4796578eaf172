"""The LMs of a run: those that its config names, and where they come from if it names none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dspy

from simba_actors.bridge.remote_lm import RemoteLM
from simba_actors.config import OptimizerConfig
from simba_actors.errors import NoLMError
from simba_actors.search.rollout import STUDENT_LM
from simba_actors.strategies import AppendARule, LearnFromFailures, MergeRules

RULE_WRITERS = (AppendARule, LearnFromFailures, MergeRules)
"""Strategies that ask the prompt model."""


def model_pool(config: OptimizerConfig) -> dict[str, Any]:
    """Return the LMs that sample trajectories, by name, the student's first."""
    lms = {STUDENT_LM: student_lm(config.student, config.lm)}
    if config.teacher_lm is not None:
        lms["teacher"] = config.teacher_lm
    return {**lms, **config.sampling_lms}


def student_lm(student: dspy.Module, lm: dspy.BaseLM | None) -> Any:
    """Return the LM of predictors without one of their own: `lm`, the LM of `dspy.settings`, or any predictor's.

    A remote student uses its own LM, where it runs.

    Raises:
        NoLMError: There is no such LM.
    """
    settings: Any = dspy.settings
    own = [predictor.lm for predictor in dspy.Module.predictors(student)]
    if own and all(isinstance(each, RemoteLM) for each in own):
        return own[0]
    found = lm or settings.lm or next((each for each in own if each is not None), None)
    if found is None:
        raise NoLMError(
            "no LM is set for the student: pass lm=dspy.LM(…), set one with dspy.configure(lm=…) or "
            "dspy.context(lm=…), or give each predictor an LM"
        )
    return found


def prompt_lm(config: OptimizerConfig, lms: Mapping[str, Any]) -> Any:
    """Return the LM that writes rules. Raise NoLMError if a strategy needs one and there is none in this process."""
    settings: Any = dspy.settings
    lm = config.prompt_model or settings.lm or config.lm or lms[STUDENT_LM]
    writers = [strategy.name for strategy in config.chosen_strategies() if isinstance(strategy, RULE_WRITERS)]
    if isinstance(lm, RemoteLM) and writers:
        raise NoLMError(
            f"no LM is set that writes rules, which {', '.join(writers)} need, and the LM of a remote student is out "
            "of reach: pass prompt_model=dspy.LM(…), set one with dspy.configure(lm=…), or pass other strategies"
        )
    return lm
