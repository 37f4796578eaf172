"""The examples that programs are evaluated on: none that one of their demos was made from."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice

from simba_actors.search.adaptive.state import AdaptiveState, CandidatePlan
from simba_actors.search.evidence import Evidence
from simba_actors.search.model.parts import Part
from simba_actors.search.policy import Pool, Proposal, TriedStep
from simba_actors.search.rollout import Rollout, RolloutKey

POSITIONS_PER_CANDIDATE = 10_000
"""Positions reserved for the rollouts of one candidate in a step."""


def evaluation_of(proposal: Proposal, step: int, plan: CandidatePlan, now: AdaptiveState) -> tuple[Rollout, ...]:
    """Plan the rollouts of a proposal's candidate, which has an equal share of those of its step.

    Each candidate has examples of its own as far as there are enough, and none that one of its demos was made from.
    """
    count = max(2, plan.rollouts // max(plan.most_candidates, 1))
    seen = set(proposal.examples).union(*(now.made_from.get(part_id, ()) for part_id in proposal.parts or ()))
    start = proposal.index * count % len(plan.order)
    examples = (example for example in plan.order[start:] + plan.order[:start] if example not in seen)
    first = proposal.index * POSITIONS_PER_CANDIDATE
    return tuple(
        Rollout(RolloutKey(step, "evaluate", first + n), proposal.program, example)
        for n, example in enumerate(islice(examples, count))
    )


def unseen_examples(
    program: int, order: Sequence[int], made_from: Mapping[str, Collection[int]], evidence: Evidence, pool: Pool
) -> Iterator[int]:
    """Yield the train examples that the program has neither run on nor has demos from, in the given order."""
    seen = {example for part in pool.parts(program) for example in made_from.get(part.part_id, ())}
    return (example for example in order if example not in seen and not evidence.has_example(program, example))


def note_examples_of_demos(made_from: dict[str, list[int]], tried: TriedStep, pool: Pool) -> None:
    """Add to `made_from` the examples that the candidates' new demos were made from, by part id."""
    for proposal in tried.proposals:
        made = pool.parts(proposal.program) if proposal.program in tried.candidates else ()
        demos = [part for part in made if part.kind == "demo" and part.part_id not in (proposal.parts or ())]
        for part_id, examples in _examples_of_demos(demos, proposal.examples).items():
            if examples:
                made_from.setdefault(part_id, examples)


def _examples_of_demos(demos: Sequence[Part], examples: Sequence[int]) -> dict[str, list[int]]:
    """Return the examples that each demo was made from, by part id.

    A demo may be from any of the examples if a predictor has not as many new demos as there are examples.
    """
    found: dict[str, list[int]] = {}
    for predictor in dict.fromkeys(part.predictor for part in demos):
        own = [part.part_id for part in demos if part.predictor == predictor]
        matched = len(own) == len(examples)
        found.update((part_id, [examples[n]] if matched else list(examples)) for n, part_id in enumerate(own))
    return found
