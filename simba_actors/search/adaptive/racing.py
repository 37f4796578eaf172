"""The candidates of a step race: all are tried on a few rows, and those that are clearly losing on no more.

What a candidate has to beat is the best program known (Maron and Moore, "Hoeffding races: accelerating model selection
search for classification and function approximation", 1994). It is dropped only where it next to certainly won't: its
rollouts are evidence for its parts, too, so that a race that dropped the worse half would save nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simba_actors.search.adaptive.step_plan import Agenda
from simba_actors.search.evidence import Evidence
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.plan import Rollout, RolloutKey
from simba_actors.search.policy import Pool, Proposal

FIRST_ROUND = 0.6
"""Of a step's evaluation, for all candidates; the rest is for those that are not clearly losing."""

CLEARLY_LOSING = 0.1
"""A chance of being no worse than the best program known below which a candidate is dropped."""

DRAWS = 100
"""From the posterior, for that chance."""

MOST_UNEVEN = 1.5
"""Times as many rollouts as another that a candidate has: after a first round they are about even."""

POSITIONS = 10_000
"""Room for rollouts of one candidate in a step."""


@dataclass(frozen=True, slots=True)
class Race:
    """One step's. `shown` maps a demo's part to the train rows that it was made from: it is not judged on those."""

    step: int
    first_program: int
    agenda: Agenda
    shown: Mapping[str, Collection[int]]

    def first_round(self, proposal: Proposal) -> tuple[Rollout, ...]:
        """Each candidate has rows of its own, as far as there are enough."""
        agenda, slot = self.agenda, proposal.slot
        candidates = len(agenda.bases) + len(agenda.combinations)
        share = 1.0 if candidates < 2 else FIRST_ROUND
        count = max(2, int(agenda.rollouts * share / max(candidates, 1)))
        seen = set(proposal.examples).union(*(self.shown.get(part_id, ()) for part_id in proposal.parts or ()))
        turn = slot * count % len(agenda.order)
        rows = [row for row in agenda.order[turn:] + agenda.order[:turn] if row not in seen]
        return self._rollouts(proposal.program, rows[:count], tried=0)

    def second_round(
        self, candidates: Sequence[int], evidence: Evidence, pool: Pool, model: Callable[[], PartModel]
    ) -> tuple[Rollout, ...]:
        """None where it was run already, or where all are losing, or where too little is left for it."""
        tried = {program: len(list(evidence.of(program, "evaluate"))) for program in candidates}
        left = self.agenda.rollouts - sum(tried.values())
        if len(candidates) < 2 or left < len(candidates) or max(tried.values()) > MOST_UNEVEN * min(tried.values()):
            return ()
        chances = chances_to_lead(model(), candidates)
        going_on = sorted(program for program, chance in chances.items() if chance >= CLEARLY_LOSING)
        rollouts: list[Rollout] = []
        for program in going_on:
            rows = unseen_rows(program, self.agenda.order, self.shown, evidence, pool)[: left // len(going_on)]
            rollouts += self._rollouts(program, rows, tried[program])
        return tuple(rollouts)

    def _rollouts(self, program: int, rows: Sequence[int], tried: int) -> tuple[Rollout, ...]:
        first = (program - self.first_program) * POSITIONS + tried
        return tuple(Rollout(RolloutKey(self.step, "evaluate", first + n), program, row) for n, row in enumerate(rows))


def unseen_rows(
    program: int, order: Sequence[int], shown: Mapping[str, Collection[int]], evidence: Evidence, pool: Pool
) -> list[int]:
    """Train rows that the program has neither run on nor among its demos."""
    seen = {row for part in pool.parts(program) for row in shown.get(part.part_id, ())}
    return [row for row in order if row not in seen and not evidence.has_example(program, row)]


def chances_to_lead(model: PartModel, programs: Sequence[int]) -> dict[int, float]:
    """For each of these, the chance that it is no worse than the program of the pool that is the best by the model."""
    qualities = model.qualities(model.likely)
    leader = max(sorted(qualities), key=qualities.__getitem__)
    draws = np.random.default_rng(0)  # Of its own: a race must not change what the search draws next.
    runners = sorted({leader, *programs})
    drawn = model.drawn_qualities_of(runners, draws, DRAWS)
    chances = (drawn >= drawn[:, [runners.index(leader)]]).mean(axis=0)
    return {program: float(chances[runners.index(program)]) for program in programs}
