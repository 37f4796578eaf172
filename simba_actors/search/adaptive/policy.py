"""The adaptive policy: every rollout tells of the parts of its program, and programs are put together from good parts.

A step samples trajectories with programs that seem good, writes rules from several failures at a time (as GEPA does:
Agrawal et al., "GEPA: reflective prompt evolution can outperform reinforcement learning", 2025) and demos from
successes, and puts together combinations of all parts known so far. What parts are worth is estimated from all scores
of the run (see `part_model`), and combinations are the best ones under draws from that estimate's uncertainty: Thompson
sampling (Thompson, 1933; for linear bandits Agrawal and Goyal, 2013), which tries what may yet be good and leaves alone
what is known to be bad. Candidates race: after a first round on few examples, those that are clearly losing are dropped
(Maron and Moore, "Hoeffding races", 1994), and the best programs of the whole run race for its end (successive halving:
Karnin, Koren and Somekh, "Almost optimal exploration in multi-armed bandits", 2013).

No candidate is judged on an example that one of its demos was made from, and no rollout is made twice that would have
to end the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import cycle, islice

from simba_actors.search.adaptive.adaptation import HOTTEST, Parameters, adapt
from simba_actors.search.adaptive.combination import Caps
from simba_actors.search.adaptive.exploration import Exploration
from simba_actors.search.adaptive.finals import Finals, most_rollouts
from simba_actors.search.adaptive.quality import best_by_model
from simba_actors.search.adaptive.racing import Race, unseen_rows
from simba_actors.search.adaptive.state import AdaptiveState
from simba_actors.search.adaptive.step_plan import Agenda
from simba_actors.search.adaptive.strategy_allocation import (
    LEARNS_FROM_LABELS,
    MERGE_RULES,
    RECOMBINE,
    assign,
    extended,
    failures_needed,
    lessons_of,
)
from simba_actors.search.batches import BatchOrder
from simba_actors.search.buckets import Bucket
from simba_actors.search.clear_winner import ClearWinner, clear_winner_by_model
from simba_actors.search.evidence import Evidence
from simba_actors.search.model.fitting import Fitting, Row
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.model.parts import Part
from simba_actors.search.plan import ModelSpec, Rollout, RolloutKey
from simba_actors.search.policy import Pool, Proposal, StepPlan, StepResult
from simba_actors.search.randomness import Draws
from simba_actors.search.trajectory import JSON

FINAL_SHARE = 0.18
"""Of all rollouts, at most, for choosing the winner."""

FRESH_ROWS = 0.75
"""Share of the train rows that the programs of the finals are likely to be fresh to."""

LAST_NEW_PARTS = 0.7
"""Share of the search after which no new parts are made: there would be no time left to learn what they are worth."""

SAMPLED_SHARE = 0.2
"""Of a step's rollouts, for finding trajectories to learn from."""

SAMPLERS = 3
"""Programs that a step samples with."""

ROLLOUTS_A_COMBINATION = 16
"""Of a step, as long as the metric is not seen to be quieter than a binary one: see `adaptation`."""

LEAST_ROWS = 4
"""That a step samples."""

CAUTIOUS_BOLDNESS = 0.5
"""Scale of the draws for the programs that trajectories are sampled with; see `exploration` for combinations."""

MOST_RULES = 12
"""Rules that a predictor's instructions hold."""

POSITIONS = 10_000
"""Room for the rollout ids of a step's samples."""


@dataclass(frozen=True)
class AdaptivePolicy:
    """The search of `policy="adaptive"`.

    `train_rows` and `val_rows` are the examples, by which it is told what parts are about. `rollouts` caps the
    whole run, `max_steps` its steps; a step is `bsize` rollouts at the least. `strategies` are the names of those to
    use, `predictors` how many the student has. `other_lms` of the model pool sample beside the student's.
    """

    train_rows: tuple[Row, ...]
    rollouts: int
    bsize: int
    max_steps: int
    max_demos: int
    seed: int
    strategies: tuple[str, ...]
    predictors: int
    other_lms: tuple[str, ...] = ()
    val_rows: tuple[Row, ...] = ()
    declined_makes_a_copy: bool = field(default=False, init=False)

    @cached_property
    def _fitting(self) -> Fitting:
        return Fitting(self.train_rows, self.val_rows)

    @cached_property
    def _finals(self) -> Finals:
        fresh = len(self.val_rows) or int(len(self.train_rows) * FRESH_ROWS)
        return Finals(len(self.val_rows), min(int(self.rollouts * FINAL_SHARE), most_rollouts(fresh)))

    @property
    def _search(self) -> int:
        return self.rollouts - self._finals.rollouts

    @property
    def _effort(self) -> int:
        """Rollouts of a usual step."""
        return max(self._search // self.max_steps, self.bsize)

    @property
    def _usual_parameters(self) -> Parameters:
        rows = max(LEAST_ROWS, int(self._effort * SAMPLED_SHARE) // 2)
        return Parameters(HOTTEST, rows, ROLLOUTS_A_COMBINATION)

    def initial_state(self) -> JSON:
        draws = Draws(self.seed)
        batches = BatchOrder.shuffled(len(self.train_rows), draws.python)
        return AdaptiveState(draws, batches, self._usual_parameters).to_json()

    def open_step(self, state: JSON, step: int, evidence: Evidence, pool: Pool) -> StepPlan | None:
        now = AdaptiveState.from_json(state)
        spent = len(evidence) + now.questions
        usual = self._effort
        if step >= self.max_steps or spent + usual // 2 > self._search:
            return None
        left = self._search - spent
        effort = min(left, max(usual, left // (self.max_steps - step)))  # What races saved goes to later steps.
        model = self._fitting.model(pool, evidence)
        rows = max(LEAST_ROWS, now.parameters.batch_size * effort // usual)
        batch, now.batches = now.batches.next_batch(min(rows, len(self.train_rows)), now.draws.python)
        samplers = self._samplers(model, now.draws)
        rollouts = self._samples(step, batch, samplers, evidence, now.parameters.temperature)
        now.agenda = self._agenda(model, now, samplers[0], effort, len(rollouts), spent < self._search * LAST_NEW_PARTS)
        return StepPlan(step, batch, rollouts, now.next_program, now.to_json())

    def _samplers(self, model: PartModel, draws: Draws) -> list[int]:
        """The best programs under as many draws of what parts are worth."""
        samplers: list[int] = []
        for _ in range(SAMPLERS):
            qualities = model.qualities(model.draw(draws.numpy, CAUTIOUS_BOLDNESS))
            samplers.append(max(qualities, key=qualities.__getitem__))
        return samplers

    def _samples(
        self, step: int, batch: Sequence[int], samplers: Sequence[int], evidence: Evidence, temperature: float
    ) -> tuple[Rollout, ...]:
        """Two for each row: one as the program runs in use, where that is not known yet, and one sampled afresh.

        In every other row, the latter is one of the other LMs', which take turns.
        """
        rollouts: list[Rollout] = []
        for place, example in enumerate(batch):
            program = samplers[place % len(samplers)]
            fresh = _afresh(step, len(rollouts), temperature)
            model = fresh if evidence.has_example(program, example) else ModelSpec()
            rollouts.append(Rollout(RolloutKey(step, "sample", len(rollouts)), program, example, model))
            fresh = _afresh(step, len(rollouts), temperature)
            if self.other_lms and place % 2:
                lm = self.other_lms[(step + place // 2) % len(self.other_lms)]
                fresh = ModelSpec(lm, rollout_id=fresh.rollout_id)
            rollouts.append(Rollout(RolloutKey(step, "sample", len(rollouts)), program, example, fresh))
        return tuple(rollouts)

    def _agenda(
        self, model: PartModel, now: AdaptiveState, source: int, effort: int, sampled: int, learns: bool
    ) -> Agenda:
        """What to do with a step's `effort`, of which `sampled` rollouts go into samples."""
        caps = Caps(self.max_demos, MOST_RULES)
        exploration = Exploration(model, now.draws.numpy, caps, len(self.train_rows))
        attempts = effort // now.parameters.rollouts_a_candidate
        combinations = exploration.untried(attempts) if RECOMBINE in self.strategies else ()
        lessons: dict[str, int] = {}
        if learns:
            usual = lessons_of(self.strategies, effort, self.predictors)
            lessons = extended(usual, attempts - len(combinations))
        bases = tuple(exploration.base() for _ in range(sum(lessons.values())))
        order = list(range(len(self.train_rows)))
        now.draws.python.shuffle(order)
        fills = self._fills(lessons.get(LEARNS_FROM_LABELS, 0), order)
        order = self._fitting.answers.evenly_spread(order)
        return Agenda(source, lessons, bases, fills, combinations, tuple(order), effort - sampled, model.range.high)

    def _fills(self, lessons: int, order: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """For each lesson from labels, rows that fill a prompt with demos; no row twice, as far as there are enough.

        So demos are tried many at a time, as factors are in a factorial experiment, before any of them is known.
        """
        rows = cycle(reversed(order))
        return tuple(tuple(dict.fromkeys(islice(rows, self.max_demos))) for _ in range(lessons))

    def proposals(self, plan: StepPlan, buckets: Sequence[Bucket], failed: int, pool: Pool) -> tuple[Proposal, ...]:
        agenda = _agenda_of(plan)
        proposals: list[Proposal] = []

        def propose(strategies: Iterable[str], examples: Iterable[int], parts: tuple[str, ...]) -> None:
            slot = len(proposals)
            program = plan.first_program + slot
            proposals.append(Proposal(slot, program, agenda.source, tuple(examples), tuple(strategies), parts=parts))

        bases = list(agenda.bases)
        for strategies, examples in assign(agenda.lessons, buckets, agenda.best_score, agenda.fills):
            base = bases[len(proposals)]
            propose(strategies, examples, _without_demos(base, pool) if strategies[0] == LEARNS_FROM_LABELS else base)
        for combination in agenda.combinations:
            propose([RECOMBINE], [], combination)
        source = pool.parts(agenda.source)
        if MERGE_RULES in self.strategies and sum(part.kind == "rule" for part in source) > 1:
            propose([MERGE_RULES], [], tuple(part.part_id for part in source))
        return tuple(proposals)

    def evaluation(self, plan: StepPlan, proposal: Proposal, pool: Pool) -> tuple[Rollout, ...]:
        return self._race(plan, AdaptiveState.from_json(plan.state)).first_round(proposal)

    def next_round(
        self,
        plan: StepPlan,
        proposals: Sequence[Proposal],
        candidates: Sequence[int],
        evidence: Evidence,
        pool: Pool,
    ) -> tuple[Rollout, ...]:
        race = self._race(plan, self._after(plan, proposals, candidates, pool))
        return race.second_round(candidates, evidence, pool, lambda: self._fitting.model(pool, evidence))

    def _race(self, plan: StepPlan, now: AdaptiveState) -> Race:
        return Race(plan.step, plan.first_program, _agenda_of(plan), now.shown)

    def close_step(
        self,
        plan: StepPlan,
        proposals: Sequence[Proposal],
        candidates: Sequence[int],
        evidence: Evidence,
        pool: Pool,
    ) -> StepResult:
        now = self._after(plan, proposals, candidates, pool)
        now.questions += sum(proposal.strategies != (RECOMBINE,) for proposal in proposals)
        now.next_program = plan.first_program + len(proposals)
        now.agenda = None
        now.rounds_before = self._finals.rounds(evidence)
        model = self._fitting.model(pool, evidence)
        qualities = model.qualities(model.likely)
        scores = {program: model.range.from_unit(qualities[program]) for program in sorted(candidates)}
        winner = max(scores, key=scores.__getitem__) if scores else None
        needed = failures_needed(lessons_of(self.strategies, self._effort, self.predictors))
        now.parameters, adaptations = adapt(
            now.parameters, self._usual_parameters, evidence, plan.step, model.range, needed
        )
        return StepResult(now.to_json(), scores, winner, best_by_model(model), adaptations)

    def _after(
        self, plan: StepPlan, proposals: Sequence[Proposal], candidates: Sequence[int], pool: Pool
    ) -> AdaptiveState:
        """The state of the plan, with what the candidates' new demos were made from."""
        now = AdaptiveState.from_json(plan.state)
        for proposal in proposals:
            made = pool.parts(proposal.program) if proposal.program in candidates else ()
            demos = [part for part in made if part.kind == "demo" and part.part_id not in (proposal.parts or ())]
            for part_id, rows in _rows_of_demos(demos, proposal.examples).items():
                if rows:
                    now.shown.setdefault(part_id, rows)
        return now

    def rollouts_ahead(self, state: JSON, steps_closed: int) -> tuple[Rollout, ...]:
        return ()

    def final_rollouts(self, state: JSON, evidence: Evidence, pool: Pool) -> tuple[Rollout, ...]:
        now = AdaptiveState.from_json(state)
        first = len(self.train_rows) if self.val_rows else 0
        order = list(range(first, first + len(self.val_rows or self.train_rows)))
        now.draws.python.shuffle(order)
        order = [row - first for row in self._fitting.answers.evenly_spread(order)]

        def rows(program: int) -> list[int]:
            if self.val_rows:
                return [row for row in order if not evidence.has_example(program, row, "val")]
            return unseen_rows(program, order, now.shown, evidence, pool)

        return self._finals.next_round(self._fitting.model(pool, evidence), evidence, rows, now.rounds_before)

    def ranking(self, state: JSON, evidence: Evidence, pool: Pool) -> list[tuple[int, float]]:
        return self._finals.ranking(self._fitting.model(pool, evidence), evidence)

    def clear_winner(
        self, incumbent: int, learnt_from: Mapping[int, Collection[int]], evidence: Evidence, pool: Pool
    ) -> ClearWinner | None:
        return clear_winner_by_model(self._fitting.model(pool, evidence), evidence, incumbent, learnt_from)

    def estimates(self, programs: Sequence[int], evidence: Evidence, pool: Pool) -> dict[int, float]:
        model = self._fitting.model(pool, evidence)
        validated = {program: evidence.mean(program, "final") for program in programs} if self.val_rows else {}
        qualities = model.qualities(model.likely)
        return {
            program: model.range.from_unit(qualities[program]) if (mean := validated.get(program)) is None else mean
            for program in programs
        }


def _afresh(step: int, position: int, temperature: float) -> ModelSpec:
    return ModelSpec(rollout_id=1 + step * POSITIONS + position, temperature=temperature)


def _without_demos(parts: Iterable[str], pool: Pool) -> tuple[str, ...]:
    """A set of new demos takes the place of those known."""
    demos = {part.part_id for program in pool.programs() for part in pool.parts(program) if part.kind == "demo"}
    return tuple(part_id for part_id in parts if part_id not in demos)


def _rows_of_demos(demos: Sequence[Part], examples: Sequence[int]) -> dict[str, list[int]]:
    """The rows that each demo was made from: all of `examples` where one can't be told from another."""
    rows: dict[str, list[int]] = {}
    for predictor in {part.predictor for part in demos}:
        own = [part.part_id for part in demos if part.predictor == predictor]
        apart = len(own) == len(examples)
        rows.update((part_id, [examples[n]] if apart else list(examples)) for n, part_id in enumerate(own))
    return rows


def _agenda_of(plan: StepPlan) -> Agenda:
    agenda = AdaptiveState.from_json(plan.state).agenda
    if agenda is None:
        raise AssertionError("an open step has an agenda")
    return agenda
