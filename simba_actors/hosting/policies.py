"""The policy of a run, as its config names it, and the size of the run that follows from the config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast, overload

import dspy

from simba_actors.config import STEPS, OptimizerConfig
from simba_actors.hosting.fingerprint import SIMBA_SETTINGS
from simba_actors.programs import to_json_value
from simba_actors.search.adaptive.policy import AdaptivePolicy
from simba_actors.search.model.examples import MOST_EXAMPLES, ExampleText
from simba_actors.search.policy import Policy
from simba_actors.search.rollout import STUDENT_LM
from simba_actors.search.settings import SearchSettings
from simba_actors.search.simba.policy import DspyPolicy


def policy_of(config: OptimizerConfig, lms: Mapping[str, Any], strategies: tuple[str, ...]) -> Policy:
    """Return the policy named in `config`, with its settings."""
    settings = SearchSettings(**{name: getattr(config, name) for name in SIMBA_SETTINGS}, max_steps=config.steps)
    if config.policy == "dspy":
        return DspyPolicy(
            settings,
            examples=len(config.trainset),
            strategies=strategies,
            teacher="teacher" in lms,
            first_rollout_id=_first_rollout_id(config.student, lms[STUDENT_LM]),
        )
    return AdaptivePolicy(
        settings,
        train_examples=_Texts(config.trainset),
        val_examples=_Texts(config.valset),
        rollouts=rollouts_expected(config),
        strategies=strategies,
        predictors=len(dspy.Module.predictors(config.student)),
        other_lms=tuple(name for name in lms if name != STUDENT_LM),
        concurrency=config.max_concurrency,
    )


def rollouts_expected(config: OptimizerConfig) -> int:
    """Return the number of rollouts that the run is expected to make.

    `dspy.SIMBA` makes that many with all its steps, candidates and finalists. If the budget caps calls, the adaptive
    policy makes as many as the cap allows. Otherwise it makes as many as `dspy.SIMBA` with the examples that it uses.
    """
    calls = config.budget.max_calls
    if config.policy == "adaptive" and calls is not None:
        return max(1, calls // len(dspy.Module.predictors(config.student)))
    candidates, examples = config.num_candidates + 1, len(config.trainset)
    if config.policy == "adaptive":
        examples = min(examples, MOST_EXAMPLES)
    a_step = config.bsize * (config.num_candidates + candidates)
    return (config.max_steps or STEPS["dspy"]) * a_step + candidates * examples


class _Texts(Sequence[ExampleText]):
    """The text of examples, made on access, since the search uses only a sample of a large trainset."""

    def __init__(self, examples: Sequence[dspy.Example]) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    @overload
    def __getitem__(self, index: int) -> ExampleText: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ExampleText]: ...
    def __getitem__(self, index: int | slice) -> ExampleText | Sequence[ExampleText]:
        if isinstance(index, slice):
            return _Texts(self._examples[index])
        example = self._examples[index]
        values = cast("list[tuple[str, object]]", cast("Any", example).items())
        fields = {name: str(to_json_value(value)) for name, value in values}
        labels = {name: fields[name] for name in cast("list[str]", cast("Any", example).labels().keys())}
        return ExampleText(" ".join(fields.values()), labels)


def _first_rollout_id(student: dspy.Module, default: Any) -> int:
    """Return the rollout id of the LM that `dspy.SIMBA` would copy, from which its copies count."""
    own = {id(predictor.lm): predictor.lm for predictor in dspy.Module.predictors(student)}
    lm = (next(iter(own.values())) if len(own) == 1 else None) or default
    return int(lm.kwargs.get("rollout_id") or 0)
