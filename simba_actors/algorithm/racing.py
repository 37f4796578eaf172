"""The candidates of a step race: all are tried on a few rows, and the better half of them on more.

Sequential halving (Karnin, Koren and Somekh, "Almost optimal exploration in multi-armed bandits", 2013), with one cut.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from simba_actors.algorithm.agenda import Agenda
from simba_actors.algorithm.evidence import Evidence
from simba_actors.algorithm.plan import Rollout, RolloutKey
from simba_actors.algorithm.policy import Pool, Proposal

FIRST_ROUND = 0.6
"""Of a step's evaluation, for all candidates; the rest is for the better half."""

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
        self,
        candidates: Sequence[int],
        evidence: Evidence,
        pool: Pool,
        qualities: Callable[[], Mapping[int, float]],
    ) -> tuple[Rollout, ...]:
        """None where it was run already, or where there is nothing to choose from, or too little left for it."""
        tried = {program: len(list(evidence.of(program, "evaluate"))) for program in candidates}
        left = self.agenda.rollouts - sum(tried.values())
        if len(candidates) < 2 or left < len(candidates) or max(tried.values()) > MOST_UNEVEN * min(tried.values()):
            return ()
        known = qualities()
        better = sorted(candidates, key=lambda program: -known[program])[: len(candidates) // 2]
        rollouts: list[Rollout] = []
        for program in sorted(better):
            rows = unseen_rows(program, self.agenda.order, self.shown, evidence, pool)[: left // len(better)]
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
