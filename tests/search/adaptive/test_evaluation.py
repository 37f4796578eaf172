"""Which examples the candidates of a step are evaluated on."""

from __future__ import annotations

from simba_actors.search.adaptive.adaptation import Parameters
from simba_actors.search.adaptive.evaluation import evaluation_of
from simba_actors.search.adaptive.state import AdaptiveState, CandidatePlan
from simba_actors.search.policy import Proposal
from simba_actors.search.randomness import BatchOrder, Draws
from simba_actors.search.rollout import STUDENT, Rollout

CANDIDATES, EACH = 4, 12


def evaluation(index: int = 0, *, learned_from: tuple[int, ...] = (), parts: tuple[str, ...] = ()) -> list[Rollout]:
    """Plan the rollouts of a proposal. The demo "known" was made from example 3."""
    bases = ((),) * CANDIDATES
    plan = CandidatePlan(STUDENT, {}, bases, (), (), tuple(range(100)), CANDIDATES * EACH, 1.0)
    now = AdaptiveState(Draws(0), BatchOrder(()), Parameters(1.0, 4, 16), made_from={"known": [3]})
    proposal = Proposal(index, 1 + index, STUDENT, learned_from, ("recombine",), parts=parts)
    return list(evaluation_of(proposal, 0, plan, now))


def test_candidates_share_the_rollouts_of_their_step_equally() -> None:
    assert [len(evaluation(index)) for index in range(CANDIDATES)] == [EACH] * CANDIDATES


def test_each_candidate_has_examples_of_its_own() -> None:
    examples = [rollout.example for index in range(CANDIDATES) for rollout in evaluation(index)]
    assert len(set(examples)) == CANDIDATES * EACH


def test_a_candidate_does_not_run_on_the_examples_that_it_learned_from() -> None:
    assert {0, 1}.isdisjoint(rollout.example for rollout in evaluation(learned_from=(0, 1)))


def test_a_candidate_does_not_run_on_the_example_of_a_demo_that_it_shows() -> None:
    assert 3 in {rollout.example for rollout in evaluation()}
    assert 3 not in {rollout.example for rollout in evaluation(parts=("known",))}
