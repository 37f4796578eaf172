"""The race of a step's candidates: all run on a few examples, and those that are clearly losing run no more.

A candidate competes with the best program known (O. Maron and A. Moore, "Hoeffding races: accelerating model selection
search for classification and function approximation", NIPS 1993). It is dropped only if it almost certainly loses: its
rollouts are also evidence about its parts, so dropping the worse half would save nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from simba_actors.search.adaptive.state import CandidatePlan
from simba_actors.search.evidence import Evidence
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.plan import Rollout, RolloutKey
from simba_actors.search.policy import Pool, Proposal

FIRST_ROUND = 0.6
"""Share of a step's evaluation that all candidates get; the rest is for those that are not clearly losing."""

CLEARLY_LOSING = 0.1
"""A candidate is dropped if its chance of being no worse than the best program known is below this."""

MOST_UNEVEN = 1.5
"""Candidates whose numbers of rollouts differ by a larger factor have had their second round already."""

POSITIONS_PER_CANDIDATE = 10_000
"""Positions reserved for the rollouts of one candidate in a step."""


@dataclass(frozen=True, slots=True)
class Race:
    """The race of one step."""

    step: int
    first_program: int
    """The number of the step's first candidate."""
    plan: CandidatePlan
    shown: Mapping[str, Collection[int]]
    """The train examples that each demo was made from, by part id. A program is not judged on those of its demos."""

    def first_round(self, proposal: Proposal) -> tuple[Rollout, ...]:
        """Plan the first rollouts of a proposal's candidate, on examples of its own as far as there are enough."""
        order = self.plan.order
        candidates = len(self.plan.bases) + len(self.plan.combinations)
        share = 1.0 if candidates < 2 else FIRST_ROUND
        count = max(2, int(self.plan.rollouts * share / max(candidates, 1)))
        seen = set(proposal.examples).union(*(self.shown.get(part_id, ()) for part_id in proposal.parts or ()))
        start = proposal.index * count % len(order)
        examples = [example for example in order[start:] + order[:start] if example not in seen]
        return self._rollouts(proposal.program, examples[:count], tried=0)

    def second_round(
        self, candidates: Sequence[int], evidence: Evidence, pool: Pool, model: Callable[[], PartModel]
    ) -> tuple[Rollout, ...]:
        """Plan more rollouts for the candidates that are not clearly losing.

        Return none if the second round was run already, if all are losing, or if too few rollouts are left.
        """
        tried = {program: len(evidence.of(program, "evaluate")) for program in candidates}
        left = self.plan.rollouts - sum(tried.values())
        if len(candidates) < 2 or left < len(candidates) or max(tried.values()) > MOST_UNEVEN * min(tried.values()):
            return ()
        chances = chances_to_lead(model(), candidates)
        remaining = sorted(program for program, chance in chances.items() if chance >= CLEARLY_LOSING)
        rollouts: list[Rollout] = []
        for program in remaining:
            examples = unseen_examples(program, self.plan.order, self.shown, evidence, pool)
            rollouts += self._rollouts(program, list(islice(examples, left // len(remaining))), tried[program])
        return tuple(rollouts)

    def _rollouts(self, program: int, examples: Sequence[int], tried: int) -> tuple[Rollout, ...]:
        first = (program - self.first_program) * POSITIONS_PER_CANDIDATE + tried
        return tuple(
            Rollout(RolloutKey(self.step, "evaluate", first + n), program, example)
            for n, example in enumerate(examples)
        )


def unseen_examples(
    program: int, order: Sequence[int], shown: Mapping[str, Collection[int]], evidence: Evidence, pool: Pool
) -> Iterator[int]:
    """Yield the train examples that the program has neither run on nor among its demos, in the given order."""
    seen = {example for part in pool.parts(program) for example in shown.get(part.part_id, ())}
    return (example for example in order if example not in seen and not evidence.has_example(program, example))


def chances_to_lead(model: PartModel, programs: Sequence[int]) -> dict[int, float]:
    """Return each program's chance of being no worse than the program that the model takes for the best of the pool."""
    qualities = model.qualities
    leader = max(sorted(qualities), key=qualities.__getitem__)
    return {program: 1 - model.chance_to_beat(leader, program) for program in programs}
