"""What a run needs that follows from its config alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import dspy

from simba_actors.config import OptimizerConfig
from simba_actors.evaluation.binding import StudentCopy
from simba_actors.hosting.fingerprint import SEARCH_SETTINGS, default_run_id, fingerprint
from simba_actors.hosting.lms import model_pool, prompt_lm
from simba_actors.hosting.policies import policy_of
from simba_actors.programs import Configuration, ConfigurationSpace
from simba_actors.programs.messages import prompt_templates
from simba_actors.search.policy import Policy
from simba_actors.search.rollout import JSON
from simba_actors.store.records import NewRun
from simba_actors.strategies import Strategy


@dataclass(frozen=True, slots=True)
class Preparation:
    """The parts of a run that need neither its store nor its event loop.

        preparation = await threads.run(lambda: Preparation.of(config))

    Making them takes about a second for 50,000 examples or 2,000 predictors, hence the thread.
    """

    space: ConfigurationSpace
    student: Configuration
    """The configuration of program 0."""
    unoptimized: Configuration
    """The rest of the student, which a file of any program needs as well."""
    lms: Mapping[str, Any]
    """The LMs that sample trajectories, by name, the student's first."""
    rule_writer: Any
    """The LM that writes rules."""
    strategies: Mapping[str, Strategy]
    policy: Policy
    new: NewRun
    copy: StudentCopy | None
    """The copy of the student that rollouts in this process are made from."""

    @classmethod
    def of(cls, config: OptimizerConfig) -> Preparation:
        """Return the preparation of the run that `config` describes, under the current `dspy.settings`.

        Raises:
            NoLMError: A predictor has no LM and no default is set, or no LM writes rules.
        """
        space = config.space or ConfigurationSpace.from_module(config.student, optimize=config.optimize)
        student, lms = space.extract(config.student), model_pool(config)
        strategies = {strategy.name: strategy for strategy in config.chosen_strategies()}
        parts = fingerprint(config, lms, space, student)
        policy = policy_of(config, lms, tuple(strategies))
        return cls(
            space=space,
            student=student,
            unoptimized=space.unoptimized(config.student),
            lms=lms,
            rule_writer=prompt_lm(config, lms),
            strategies=strategies,
            policy=policy,
            new=NewRun(
                config.run_id or default_run_id(config, parts),
                parts,
                _shown_settings(config, policy),
                _prompts(config.student),
            ),
            copy=StudentCopy.of(config.student) if config.executor is None else None,
        )


def _prompts(student: dspy.Module) -> dict[str, JSON]:
    """Return how DSPy writes the prompts of the student's predictors, with which the store can show them."""
    settings: Any = dspy.settings
    predictors = cast("list[tuple[str, Any]]", student.named_predictors())
    return prompt_templates(dict(predictors), settings.adapter or dspy.ChatAdapter())


def _shown_settings(config: OptimizerConfig, policy: Policy) -> dict[str, JSON]:
    """Return the settings that `simba-actors show` and the dashboard display."""
    return {
        **{name: getattr(config, name) for name in SEARCH_SETTINGS},
        "max_steps": config.steps,
        "max_concurrency": config.max_concurrency,
        "steps_at_once": policy.steps_at_once(policy.initial_state(), config.steps),
        "rollout_timeout": config.rollout_timeout,
        "budget": asdict(config.budget),
    }
