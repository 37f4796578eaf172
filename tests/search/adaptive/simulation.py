"""A whole run of the adaptive policy without an LM: scores are drawn from the true effects of parts."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np

from simba_actors.search.adaptive.policy import AdaptivePolicy
from simba_actors.search.buckets import rank_buckets
from simba_actors.search.evidence import Evidence, Score
from simba_actors.search.model.examples import ExampleText
from simba_actors.search.model.parts import Part
from simba_actors.search.policy import Proposal, StepPlan, TriedStep
from simba_actors.search.progress import Progress, progress_of
from simba_actors.search.quality import Outlook
from simba_actors.search.rollout import STUDENT, Rollout, Usage
from simba_actors.search.settings import SearchSettings
from simba_actors.search.stopping import StopWhen, reason_to_stop

EXAMPLES = 120

Effects = Callable[[np.random.Generator], float]
"""Draws the true effect of a new part, in log-odds."""


class Programs(ABC):
    """Programs that can be run without an LM, and new ones that can be made. A `Pool` for policies."""

    seed: int
    examples: Sequence[ExampleText]
    """The trainset."""
    strategies: tuple[str, ...]
    predictors: int
    parts_of: dict[int, tuple[Part, ...]]
    """The parts of each program."""

    def programs(self) -> list[int]:
        return sorted(self.parts_of)

    def before(self, number: int) -> Self:
        """Return the same with the programs below that number alone."""
        limited = copy(self)
        limited.parts_of = {program: parts for program, parts in self.parts_of.items() if program < number}
        return limited

    def parts(self, program: int) -> tuple[Part, ...]:
        return self.parts_of[program]

    def free_parts(self) -> tuple[Part, ...]:
        return ()

    @abstractmethod
    def demos(self, program: int) -> int:
        """Return the number of demos of the predictor that has the most."""

    @abstractmethod
    def make(self, proposal: Proposal, step: int) -> bool:
        """Make the program of a proposal. Return whether there is one."""

    @abstractmethod
    def score(self, rollout: Rollout) -> Score:
        """Run a rollout."""


@dataclass
class World(Programs):
    """Programs and their true quality. The student is right half the time; `effects` draws those of new parts."""

    effects: Effects
    seed: int
    examples: Sequence[ExampleText] = tuple(ExampleText(f"example {n}", {}) for n in range(EXAMPLES))
    strategies: tuple[str, ...] = ("append_a_demo", "learn_from_failures", "recombine")
    predictors: int = 1
    parts_of: dict[int, tuple[Part, ...]] = field(default_factory=lambda: {STUDENT: ()})
    effect_of: dict[str, float] = field(default_factory=dict[str, float])

    def __post_init__(self) -> None:
        self.draws = np.random.default_rng(self.seed)
        self.ease = self.draws.normal(0.0, 1.5, EXAMPLES)

    def demos(self, program: int) -> int:
        return sum(part.kind == "demo" for part in self.parts(program))

    def quality(self, program: int) -> float:
        """Return the program's expected score."""
        return float(self._chances(program).mean())

    def make(self, proposal: Proposal, step: int) -> bool:
        """Make the program of a proposal, with a new part unless it only combines old ones."""
        known = {part.part_id: part for parts in self.parts_of.values() for part in parts}
        parts = [known[part_id] for part_id in proposal.parts or ()]
        if proposal.strategies[0] != "recombine":
            kind = "demo" if "demo" in proposal.strategies[0] else "rule"
            text = f"{kind} of program {proposal.program}"
            fields = {"answer": text} if kind == "demo" else {}
            parts.append(Part(text, "self", kind, text, fields))
            self.effect_of[text] = self.effects(self.draws)
        self.parts_of[proposal.program] = tuple(parts)
        return True

    def score(self, rollout: Rollout) -> Score:
        """Run a rollout."""
        right = self.draws.random() < self._chances(rollout.program)[rollout.example]
        return Score(rollout.key, rollout.program, rollout.example, float(right), rollout.model, rollout.split)

    def _chances(self, program: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        log_odds = self.ease + sum(self.effect_of[part.part_id] for part in self.parts(program))
        return 1 / (1 + np.exp(-log_odds))


class Run(NamedTuple):
    """The outcome of a simulated run."""

    winner: int
    rollouts: int
    """The number of its rollouts."""
    outlooks: tuple[Outlook | None, ...]
    """The gains that it expected after each step."""


def winner_in(world: World, rollouts: int) -> int:
    """Run the policy to its end and return the program that it chooses."""
    return run(world, rollouts).winner


def run(
    world: Programs,
    rollouts: int,
    *,
    resumed: bool = False,
    stop_when: StopWhen | None = None,
    steps_at_once: Callable[[int], int] | None = None,
    max_steps: int = 24,
) -> Run:
    """Run the policy to its end, or until `stop_when` says so.

    If it is `resumed`, then before each call by a new policy, with the evidence in another order. `steps_at_once` says
    how many steps to keep open after so many have closed, where that is not the policy's choice.
    """
    settings = SearchSettings(bsize=32, num_candidates=6, max_steps=max_steps, max_demos=4, seed=world.seed)

    def new_policy() -> AdaptivePolicy:
        return AdaptivePolicy(settings, world.examples, rollouts, world.strategies, world.predictors)

    policy = new_policy()
    opened = closed = policy.initial_state()
    evidence, step = Evidence(), 0
    open_steps: list[tuple[TriedStep, list[Score]]] = []
    progress: Progress | None = None
    outlooks: list[Outlook | None] = []
    stopped = False

    def now() -> AdaptivePolicy:
        nonlocal policy, evidence
        if resumed:
            policy = new_policy()
            evidence = Evidence(score for program in reversed(evidence.programs()) for score in evidence.of(program))
        return policy

    def most_open(closed_steps: int) -> int:
        return policy.steps_at_once(closed, closed_steps) if steps_at_once is None else steps_at_once(closed_steps)

    def known() -> Programs:
        """Return the world with the programs of closed steps."""
        return world.before(open_steps[0][0].plan.first_program) if open_steps else world

    while True:
        while not stopped and len(open_steps) < most_open(step - len(open_steps)):
            plan = now().open_step(opened if open_steps else closed, closed, step, evidence, known())
            if plan is None:
                break
            opened = json.loads(json.dumps(plan.state))
            open_steps.append(_tried(policy, plan, world))
            step += 1
        if not open_steps:
            break
        tried, scores = open_steps.pop(0)
        evidence.add(scores)
        result = now().close_step(closed, tried, evidence, known())
        usage = Usage(calls=len(evidence))
        progress = progress_of(tried.plan.step, result.best, result.outlook, evidence, usage, 0.0, progress)
        outlooks.append(result.outlook)
        closed = json.loads(json.dumps(result.state))
        stopped = stopped or (stop_when is not None and reason_to_stop(stop_when, progress) is not None)
    while finals := now().final_rollouts(closed, evidence, world):
        evidence.add(map(world.score, finals))
    return Run(now().ranking(closed, evidence, world)[0][0], len(evidence), tuple(outlooks))


def _tried(policy: AdaptivePolicy, plan: StepPlan, world: Programs) -> tuple[TriedStep, list[Score]]:
    """Make and evaluate the candidates of a step."""
    pool = world.before(plan.pool_end)
    scores = [world.score(rollout) for rollout in plan.rollouts]
    buckets = rank_buckets(plan.batch, [(score.example, score.score) for score in scores])
    proposals = policy.proposals(plan, buckets, 0, pool)
    made = [proposal for proposal in proposals if world.make(proposal, plan.step)]
    for proposal in made:
        scores += map(world.score, policy.evaluation(plan, proposal, pool))
    return TriedStep(plan, proposals, tuple(proposal.program for proposal in made)), scores
