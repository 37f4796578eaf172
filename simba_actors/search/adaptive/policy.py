"""The adaptive policy: each rollout is evidence about the parts of its program, and programs combine good parts.

A step samples trajectories with programs that seem good, writes rules from several failures at a time (as GEPA does:
L. Agrawal et al., "GEPA: reflective prompt evolution can outperform reinforcement learning", arXiv 2507.19457, 2025),
makes demos from successes, and combines all parts known so far. What parts are worth is estimated from all scores of
the run (see `search.model.part_model`). Combinations are the best ones under draws from the uncertainty of that
estimate: Thompson sampling (W. Thompson, 1933; for linear bandits S. Agrawal and N. Goyal, "Thompson sampling for
contextual bandits with linear payoffs", ICML 2013), which tries what may still be good and avoids what is known to be
bad. The best programs of the whole run compete at its end (see `finals`).

No candidate is judged on an example that one of its demos was made from, and no rollout is repeated whose score is
known already.

Of a trainset or valset with more than 2,000 examples the search uses a random sample of that size (see
`search.model.examples`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, cycle, islice

import numpy as np

from simba_actors.search.adaptive.adaptation import HOTTEST, Parameters, adapt
from simba_actors.search.adaptive.evaluation import evaluation_of, note_examples_of_demos, unseen_examples
from simba_actors.search.adaptive.exploration import Exploration
from simba_actors.search.adaptive.finals import FINALISTS, Finals
from simba_actors.search.adaptive.outlook import outlook_of
from simba_actors.search.adaptive.schedule import LEAST_EXAMPLES, Schedule, steps_at_once
from simba_actors.search.adaptive.state import (
    AdaptiveState,
    CandidatePlan,
    OpenStep,
    stored_steps_at_once,
    stored_warm_start,
)
from simba_actors.search.adaptive.strategy_allocation import (
    APPEND_LABELED_DEMOS,
    ASK_NO_LM,
    MERGE_RULES,
    OMIT_SENTENCES,
    RECOMBINE,
    allocate,
    assign,
    extend,
    failures_needed,
)
from simba_actors.search.buckets import BucketScores
from simba_actors.search.clear_winner import ClearWinner, clear_winner_by_model
from simba_actors.search.evidence import Evidence
from simba_actors.search.model.examples import Examples, ExampleText
from simba_actors.search.model.fitting import Fitting
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.model.warm_start import WarmStart
from simba_actors.search.policy import Pool, Proposal, StepPlan, StepResult, TriedStep
from simba_actors.search.quality import Outlook, best_by_model
from simba_actors.search.randomness import BatchOrder, Draws
from simba_actors.search.rollout import JSON, ModelSpec, Rollout, RolloutKey
from simba_actors.search.settings import SearchSettings

FRESH_EXAMPLES = 0.75
"""Share of the trainset that finalists have usually neither run on nor been made from when the finals begin. Without a
valset, it limits how long the finals can be."""

LAST_NEW_PARTS = 0.7
"""Share of the search after which no new parts are made: there would be no time left to learn what they are worth."""

SAMPLED_SHARE = 0.2
"""Share of a step's rollouts that sample trajectories to learn from. More of them find more failures to write rules
from, and leave fewer rollouts to evaluate candidates with. In 240 simulated runs of 500 calls, twice as many changed
the gain by 0.11 ± 0.10 from 1.00."""

SAMPLERS = 3
"""Number of programs that sample in a step. One alone would show its own failures only; with more, those that sample
are worse. In the same runs, one changed the gain by 0.03 ± 0.07, and six by 0.02 ± 0.08."""

ROLLOUTS_PER_COMBINATION = 16
"""Default rollouts per candidate. `adaptation` lowers it for a metric that is less noisy than a binary one."""

CAUTIOUS_BOLDNESS = 0.5
"""Scale of the draws that choose the programs to sample with; `exploration.BOLDNESS` is that for combinations. Smaller
draws choose the best program again and again, larger ones worse programs. Without any draws, for combinations too, the
gain in planted worlds is smaller by 0.28 ± 0.11 of 1.42."""

ROLLOUT_IDS_PER_STEP = 10_000
"""Rollout ids reserved for the samples of one step."""


@dataclass(frozen=True)
class AdaptivePolicy:
    """The search of `policy="adaptive"`."""

    settings: SearchSettings
    train_examples: Sequence[ExampleText]
    """The trainset as text, from which the model learns what parts are about."""
    rollouts: int
    """Maximum number of rollouts of the whole run."""
    strategies: tuple[str, ...]
    """Names of the strategies to use."""
    predictors: int
    """Number of predictors of the student."""
    other_lms: tuple[str, ...] = ()
    """Names of the LMs that sample trajectories besides the student's."""
    val_examples: Sequence[ExampleText] = ()
    """The valset as text."""
    concurrency: int = 1
    """Maximum number of rollouts in flight."""
    declined_makes_a_copy: bool = field(default=False, init=False)

    @cached_property
    def _fitting(self) -> Fitting:
        return Fitting(self._examples, self._schedule.per_step, omissions=OMIT_SENTENCES in self.strategies)

    @cached_property
    def _examples(self) -> Examples:
        return Examples(self.train_examples, self.val_examples, self.settings.seed)

    @cached_property
    def _schedule(self) -> Schedule:
        fresh = len(self._examples.val) or int(len(self._examples.train) * FRESH_EXAMPLES)
        return Schedule.of(self.rollouts, fresh, self.settings)

    @property
    def _finals(self) -> Finals:
        return Finals(len(self._examples.val), self._schedule.finals)

    @property
    def _usual_parameters(self) -> Parameters:
        examples = max(LEAST_EXAMPLES, int(self._schedule.per_step * SAMPLED_SHARE) // 2)
        return Parameters(HOTTEST, examples, ROLLOUTS_PER_COMBINATION)

    @property
    def _asks_lms(self) -> bool:
        """Whether new parts may take LM calls, so that each one counts as a rollout."""
        return not set(self.strategies) <= set(ASK_NO_LM)

    def initial_state(self) -> JSON:
        draws = Draws(self.settings.seed)
        batches = BatchOrder.shuffled(self._examples.train, draws.python)
        at_once = steps_at_once(self.concurrency, self._schedule.per_step, self._schedule.search)
        return AdaptiveState(draws, batches, self._usual_parameters, at_once).to_json()

    def rollouts_expected(self, first_step: int) -> int:
        return self._schedule.expected(first_step)

    def steps_at_once(self, state: JSON, closed: int) -> int:
        # What the first steps find is worth most to the next ones, whose plans lack what open steps find.
        return min(stored_steps_at_once(state), 1 + closed)

    def open_step(self, opened: JSON, closed: JSON, step: int, evidence: Evidence, pool: Pool) -> StepPlan | None:
        now = AdaptiveState.from_json(closed)
        if opened is not closed:
            now = AdaptiveState.from_json(opened).updated_by(now)
        now.open_steps = tuple(other for other in now.open_steps if other.step >= now.steps_closed)
        spent = len(evidence) + now.questions + sum(other.rollouts for other in now.open_steps)
        steps = self._schedule.steps(step, now.steps, now.rollouts)
        usual, rollouts = self._schedule.per_step, self._schedule.planned(step, spent, steps)
        if rollouts == 0:
            return None
        now.steps, now.rollouts = steps, self.rollouts
        model = self._fitting.model(pool, evidence, now.warm_start)
        now.warm_start = model.warm_start()
        examples = max(LEAST_EXAMPLES, now.parameters.batch_size * rollouts // usual)
        batch, now.batches = now.batches.next_batch(min(examples, len(now.batches.order)), now.draws.python)
        samplers = self._samplers(model, now.draws)
        samples = self._samples(step, batch, samplers, evidence, now.parameters.temperature)
        makes_parts = spent < self._schedule.search * LAST_NEW_PARTS
        source, sampled = samplers[0], len(samples)
        merges = self._merges_rules(source, pool)
        plan = self._plan_candidates(model, now, source, merges, rollouts, sampled, makes_parts)
        questions = len(plan.bases) + plan.merges if self._asks_lms else 0
        opening = OpenStep(step, rollouts + questions, plan.combinations)
        now.candidate_plan, now.open_steps = plan, (*now.open_steps, opening)
        first_program, now.next_program = now.next_program, now.next_program + plan.most_candidates
        state = now.to_json()
        self._keep(step, state, now)
        return StepPlan(step, batch, samples, first_program, state, pool_end=max(pool.programs()) + 1)

    def may_continue(self, state: JSON, step: int, evidence: Evidence) -> bool:
        now = AdaptiveState.from_json(state)
        spent = len(evidence) + now.questions
        steps = self._schedule.steps(step, now.steps, now.rollouts)
        return self._schedule.has_grown(now.rollouts) and self._schedule.planned(step, spent, steps) > 0

    def _samplers(self, model: PartModel, draws: Draws) -> list[int]:
        """Choose the programs to sample with: the best one under each of `SAMPLERS` draws."""
        samplers: list[int] = []
        for _ in range(SAMPLERS):
            qualities = model.qualities_under(model.draw(draws.numpy, CAUTIOUS_BOLDNESS))
            samplers.append(max(qualities, key=qualities.__getitem__))
        return samplers

    def _samples(
        self, step: int, batch: Sequence[int], samplers: Sequence[int], evidence: Evidence, temperature: float
    ) -> tuple[Rollout, ...]:
        """Plan two rollouts per example: one as the program runs in use, unless that is known, and one sampled afresh.

        For every other example the latter runs with one of the other LMs, which take turns.
        """
        rollouts: list[Rollout] = []
        for index, example in enumerate(batch):
            program = samplers[index % len(samplers)]
            fresh = _afresh(step, len(rollouts), temperature)
            model = fresh if evidence.has_example(program, example) else ModelSpec()
            rollouts.append(Rollout(RolloutKey(step, "sample", len(rollouts)), program, example, model))
            fresh = _afresh(step, len(rollouts), temperature)
            if self.other_lms and index % 2:
                lm = self.other_lms[(step + index // 2) % len(self.other_lms)]
                fresh = ModelSpec(lm, rollout_id=fresh.rollout_id)
            rollouts.append(Rollout(RolloutKey(step, "sample", len(rollouts)), program, example, fresh))
        return tuple(rollouts)

    def _plan_candidates(
        self,
        model: PartModel,
        now: AdaptiveState,
        source: int,
        merges: bool,
        rollouts: int,
        sampled: int,
        makes_parts: bool,
    ) -> CandidatePlan:
        """Plan how a step spends its `rollouts`, `sampled` of which are samples."""
        in_flight = [parts for other in now.open_steps for parts in other.combinations]
        exploration = Exploration(model, now.draws.numpy, self.settings.caps, in_flight)
        attempts = rollouts // now.parameters.rollouts_per_candidate
        combinations = exploration.untried(attempts) if RECOMBINE in self.strategies else ()
        allocation: dict[str, int] = {}
        if makes_parts:
            usual = allocate(self.strategies, rollouts, self.predictors)
            allocation = extend(usual, attempts - len(combinations))
        bases = exploration.bases(sum(allocation.values()))
        order = list(self._examples.train)
        now.draws.python.shuffle(order)
        demo_examples = self._demo_examples(allocation.get(APPEND_LABELED_DEMOS, 0), order)
        order = self._examples.evenly_spread("train", order)
        return CandidatePlan(
            source=source,
            allocation=allocation,
            bases=bases,
            demo_examples=demo_examples,
            combinations=combinations,
            order=tuple(order),
            rollouts=rollouts - sampled,
            best_score=model.range.high,
            merges=merges,
        )

    def _merges_rules(self, source: int, pool: Pool) -> bool:
        """Return whether a step also tries the source with its rules merged."""
        return MERGE_RULES in self.strategies and sum(part.kind == "rule" for part in pool.parts(source)) > 1

    def _demo_examples(self, applications: int, order: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """Return, for each application, as many examples as a prompt holds demos: different ones if there are enough.

        Demos are tried many at a time, as in a factorial experiment, before anything is known about any of them.
        """
        examples = cycle(reversed(order))
        return tuple(tuple(dict.fromkeys(islice(examples, self.settings.caps.demos))) for _ in range(applications))

    def proposals(
        self, plan: StepPlan, buckets: Sequence[BucketScores], failed: int, pool: Pool
    ) -> tuple[Proposal, ...]:
        planned = _candidate_plan(self._state_of(plan))
        proposals: list[Proposal] = []

        def propose(strategies: Iterable[str], examples: Iterable[int], parts: tuple[str, ...]) -> None:
            index = len(proposals)
            program = plan.first_program + index
            proposals.append(Proposal(index, program, planned.source, tuple(examples), tuple(strategies), parts=parts))

        learns_from_labels = APPEND_LABELED_DEMOS in planned.allocation
        demos = _demos_among({*chain(*planned.bases)}, pool) if learns_from_labels else set[str]()
        assigned = assign(planned.allocation, buckets, planned.best_score, planned.demo_examples)
        for (strategies, examples), base in zip(assigned, planned.bases, strict=False):
            # A set of new demos replaces the known ones.
            replaced = demos if strategies[0] == APPEND_LABELED_DEMOS else ()
            propose(strategies, examples, tuple(part_id for part_id in base if part_id not in replaced))
        for combination in planned.combinations:
            propose([RECOMBINE], [], combination)
        if self._merges_rules(planned.source, pool):
            propose([MERGE_RULES], [], tuple(part.part_id for part in pool.parts(planned.source)))
        return tuple(proposals)

    def evaluation(self, plan: StepPlan, proposal: Proposal, pool: Pool) -> tuple[Rollout, ...]:
        now = self._state_of(plan)
        return evaluation_of(proposal, plan.step, _candidate_plan(now), now)

    def _state_of(self, plan: StepPlan) -> AdaptiveState:
        """Return the state stored with a plan, parsed once per step. All its candidates share it: don't change it."""
        state, now = self._states.get(plan.step, (None, None))
        if now is None or state is not plan.state:
            now = AdaptiveState.from_json(plan.state)
            self._keep(plan.step, plan.state, now)
        return now

    def _keep(self, step: int, state: JSON, now: AdaptiveState) -> None:
        """Keep the parsed state of a step's plan, and forget those of steps that have closed long since."""
        self._states[step] = state, now
        self._states.pop(step - 2 * now.steps_at_once, None)

    @cached_property
    def _states(self) -> dict[int, tuple[JSON, AdaptiveState]]:
        """The states of the latest plans, by step."""
        return {}

    def close_step(self, closed: JSON, tried: TriedStep, evidence: Evidence, pool: Pool) -> StepResult:
        plan = tried.plan
        planned = self._state_of(plan)
        now = replace(planned.updated_by(AdaptiveState.from_json(closed)), warm_start=planned.warm_start)
        note_examples_of_demos(now.made_from, tried, pool)
        if self._asks_lms:
            now.questions += sum(proposal.strategies != (RECOMBINE,) for proposal in tried.proposals)
        now.candidate_plan, now.steps_closed = None, plan.step + 1
        now.rounds_before = evidence.rounds
        model = self._fitting.model(pool, evidence, now.warm_start)
        qualities = model.qualities
        candidates = sorted(tried.candidates)
        winner = max(candidates, key=qualities.__getitem__) if candidates else None
        means = {program: evidence.mean(program, "evaluate") for program in candidates}
        scores = {p: model.range.from_unit(qualities[p]) if mean is None else mean for p, mean in means.items()}
        needed = failures_needed(allocate(self.strategies, self._schedule.per_step, self.predictors))
        now.parameters, adaptations = adapt(
            now.parameters, self._usual_parameters, evidence, plan.step, model.range, needed
        )
        outlook = self._outlook(model, now, len(evidence) + now.questions, plan.step)
        return StepResult(now.to_json(), scores, winner, best_by_model(model), adaptations, outlook)

    def _outlook(self, model: PartModel, now: AdaptiveState, spent: int, step: int) -> Outlook | None:
        """Return what the rest of the search is expected to add if new parts keep coming at the same rate."""
        last_new_parts = int(self._schedule.search * LAST_NEW_PARTS)
        new_parts = len(model.parts) * max(0, last_new_parts - spent) // max(1, min(spent, last_new_parts))
        is_over = self._schedule.planned(step + 1, spent, now.steps) == 0
        left = 0 if is_over else self._schedule.search - spent
        finals = self._schedule.finals // len(FINALISTS)
        draws = np.random.default_rng([self.settings.seed, step])  # Its own, so that it changes no other draw.
        return outlook_of(model, self.settings.caps, spent, left, finals, new_parts, draws)

    def final_rollouts(self, state: JSON, evidence: Evidence, pool: Pool) -> tuple[Rollout, ...]:
        now = AdaptiveState.from_json(state)
        split = self._finals.split
        order = list(self._examples.val or self._examples.train)
        now.draws.python.shuffle(order)
        order = self._examples.evenly_spread(split, order)

        def fresh(program: int) -> Iterable[int]:
            if split == "val":
                return (example for example in order if not evidence.has_example(program, example, "val"))
            return unseen_examples(program, order, now.made_from, evidence, pool)

        return self._finals.next_round(
            self._fitting.model(pool, evidence, now.warm_start), evidence, fresh, now.rounds_before
        )

    def ranking(self, state: JSON, evidence: Evidence, pool: Pool) -> list[tuple[int, float]]:
        return self._finals.ranking(self._fitting.model(pool, evidence, stored_warm_start(state)), evidence)

    def clear_winner(
        self, incumbent: int, learned_from: Mapping[int, Collection[int]], evidence: Evidence, pool: Pool
    ) -> ClearWinner | None:
        model = self._fitting.model(pool, evidence, WarmStart(), incumbent)
        return clear_winner_by_model(model, evidence, incumbent, learned_from)

    def scores(self, programs: Sequence[int], evidence: Evidence) -> dict[int, float]:
        return {program: self._finals.score(program, evidence) or 0.0 for program in programs}


def _afresh(step: int, position: int, temperature: float) -> ModelSpec:
    """Return the student's LM with a rollout id that no other sample of the run has, so that no reply is a cached
    one."""
    return ModelSpec(rollout_id=1 + step * ROLLOUT_IDS_PER_STEP + position, temperature=temperature)


def _demos_among(part_ids: Collection[str], pool: Pool) -> set[str]:
    """Return the ids of the demos among these parts. They are looked up in the newest programs first."""
    unknown, demos = set(part_ids).difference(part.part_id for part in pool.free_parts()), set[str]()
    for program in reversed(pool.programs()):
        if not unknown:
            break
        own = [part for part in pool.parts(program) if part.part_id in unknown]
        demos.update(part.part_id for part in own if part.kind == "demo")
        unknown.difference_update(part.part_id for part in own)
    return demos


def _candidate_plan(now: AdaptiveState) -> CandidatePlan:
    if now.candidate_plan is None:
        raise AssertionError("an open step has a plan for its candidates")
    return now.candidate_plan
