"""Other ways to search, to compare with the adaptive policy: Optuna's TPE, and a bandit."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Generator, Mapping, Sequence
from typing import Any
from unittest import mock

import numpy as np
import optuna

from simba_actors.search.adaptive import exploration
from simba_actors.search.adaptive import policy as adaptive_policy
from simba_actors.search.adaptive.combination import best_combinations
from simba_actors.search.adaptive.exploration import BOLDNESS, Exploration
from simba_actors.search.adaptive.strategy_allocation import APPEND_A_DEMO, APPEND_LABELED_DEMOS, extend
from simba_actors.search.model.effects import Effects
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.model.parts import PartKind
from simba_actors.search.settings import Caps
from simba_actors.search.statistics.mixed_model import sigmoid

STARTUP_TRIALS = 8


def with_optuna() -> contextlib.AbstractContextManager[Any]:
    """Let TPE choose what to recombine, in place of the policy's own model."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return mock.patch.multiple(exploration, best_combinations=tpe_combinations)


def tpe_combinations(
    model: PartModel, possible: Sequence[Effects], candidates: Sequence[int], caps: Caps
) -> list[tuple[int, ...]]:
    """Return what to combine under each of the `possible` effects."""
    return [tpe_combination(model, effects, candidates, caps) for effects in possible]


def tpe_combination(model: PartModel, effects: Effects, candidates: Sequence[int], caps: Caps) -> tuple[int, ...]:
    """Return the `candidates` to combine, as chosen by Optuna's TPE from the mean score of each program."""
    seed = int(abs(float(effects.student.sum())) * 1e6) % 2**31
    sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=STARTUP_TRIALS)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    space: dict[str, optuna.distributions.BaseDistribution] = {
        str(place): optuna.distributions.CategoricalDistribution([False, True]) for place in candidates
    }
    for program, score in own_means(model).items():
        params = {str(place): place in model.programs[program] for place in candidates}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=score))
    asked = study.ask(space).params
    chosen: list[int] = []
    for place in (place for place in candidates if asked[str(place)]):
        part = model.parts[place]
        alike = [n for n in chosen if (model.parts[n].predictor, model.parts[n].kind) == (part.predictor, part.kind)]
        if len(alike) < {"demo": caps.demos, "rule": caps.rules, "instructions": 1}[part.kind]:
            chosen.append(place)
    return tuple(sorted(chosen))


def own_means(model: PartModel) -> dict[int, float]:
    """Return the mean score, from 0 to 1, of each program that was tried."""
    counts = np.bincount(model.fit.program, minlength=len(model.programs))
    sums = np.bincount(model.fit.program, model.fit.score, len(model.programs))
    return {program: float(sums[row] / counts[row]) for row, program in enumerate(model.programs) if counts[row]}


class PayingExploration(Exploration):
    """Exploration that also knows how much parts of each kind have paid."""

    def __init__(self, model: PartModel, draws: np.random.Generator, caps: Caps) -> None:
        super().__init__(model, draws, caps)
        effects = model.draw(draws, BOLDNESS)
        [best] = best_combinations(model, [effects], range(len(model.parts)), caps)
        whole = float(sigmoid(model.log_odds_of(best, effects)).mean())
        added: defaultdict[PartKind, float] = defaultdict(float)
        for place in best:
            without = sigmoid(model.log_odds_of([other for other in best if other != place], effects))
            added[model.parts[place].kind] += max(0.0, whole - float(without.mean()))
        made: Counter[PartKind] = Counter(part.kind for part in model.parts)
        self.payoffs: dict[PartKind, float] = {kind: added[kind] / count for kind, count in made.items()}


@contextlib.contextmanager
def with_a_bandit() -> Generator[None]:
    """Shift applications to the strategies whose parts add more to the best combination under a draw."""
    payoffs: dict[PartKind, float] = {}

    def exploration_of(*args: Any) -> Exploration:
        made = PayingExploration(*args)
        payoffs.update(made.payoffs)
        return made

    def shifted_and_extended(allocation: Mapping[str, int], candidates: int) -> dict[str, int]:
        return extend(shifted(allocation, payoffs), candidates)

    with mock.patch.multiple(adaptive_policy, Exploration=exploration_of, extend=shifted_and_extended):
        yield


def shifted(allocation: Mapping[str, int], payoffs: Mapping[PartKind, float]) -> dict[str, int]:
    """Distribute the same number of applications by what each strategy's parts have paid; each strategy keeps one."""
    kinds: dict[str, PartKind] = {
        name: "demo" if name in (APPEND_A_DEMO, APPEND_LABELED_DEMOS) else "rule" for name in allocation
    }
    paid = {name: payoffs.get(kind, 0.0) for name, kind in kinds.items()}
    if not all(kind in payoffs for kind in kinds.values()) or sum(paid.values()) <= 0:
        return dict(allocation)
    spare = sum(allocation.values()) - len(allocation)
    shares = {name: 1 + spare * value / sum(paid.values()) for name, value in paid.items()}
    times = {name: int(share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: times[name] - shares[name])
    for name in by_remainder[: sum(allocation.values()) - sum(times.values())]:
        times[name] += 1
    return times
