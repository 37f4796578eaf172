"""`dspy.SIMBA` as in DSPy 3.4, draw for draw.

The same seed, student, trainset and LM replies give the batches, picks, candidates, scores and winner of `dspy.SIMBA`
(`dspy/teleprompt/simba.py`). Random numbers are drawn in the order of its loop, and none depends on when replies
arrive, so the work itself may overlap.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from simba_actors.search.buckets import BucketScores
from simba_actors.search.clear_winner import ClearWinner, clear_winner_by_pairs
from simba_actors.search.evidence import Evidence
from simba_actors.search.policy import Pool, Proposal, StepPlan, StepResult, TriedStep
from simba_actors.search.quality import best_by_batch
from simba_actors.search.randomness import BatchOrder, Draws
from simba_actors.search.rollout import FINAL_STEP, JSON, STUDENT, ModelSpec, Rollout, RolloutKey
from simba_actors.search.settings import SearchSettings
from simba_actors.search.simba.choices import demos_to_drop, softmax_sample, top_k_with_student

SAMPLING_TEMPERATURE = 1.0
"""LM temperature of the copies that `dspy.SIMBA` samples trajectories with."""


@dataclass(slots=True)
class _State:
    """State that `dspy.SIMBA` keeps in local variables between steps."""

    draws: Draws
    batches: BatchOrder
    means: list[tuple[int, float]]
    """Each program with its mean score, in order of registration."""
    winners: list[int]
    """The student, then the winner of each closed step."""
    next_program: int = 1
    """The number of the next new program."""

    def to_json(self) -> JSON:
        return {
            "draws": self.draws.to_json(),
            "order": list(self.batches.order),
            "used": self.batches.used,
            "means": [[number, mean] for number, mean in self.means],
            "winners": list(self.winners),
            "next_program": self.next_program,
        }

    @classmethod
    def from_json(cls, stored: JSON) -> _State:
        data = cast("dict[str, Any]", stored)
        return cls(
            Draws.from_json(data["draws"]),
            BatchOrder(tuple(data["order"]), data["used"]),
            [(number, mean) for number, mean in data["means"]],
            list(data["winners"]),
            data["next_program"],
        )


@dataclass(frozen=True, slots=True)
class DspyPolicy:
    """The search of `dspy.SIMBA`."""

    settings: SearchSettings
    examples: int
    """Size of the trainset."""
    strategies: tuple[str, ...]
    """Names of the strategies to choose from, in the order that `dspy.SIMBA` has them in."""
    teacher: bool = False
    """Whether a teacher LM samples in place of the first copy of the student's."""
    first_rollout_id: int = 0
    """The rollout id of the first copy of the student's LM."""
    declined_makes_a_copy: bool = True

    def initial_state(self) -> JSON:
        draws = Draws(self.settings.seed)
        batches = BatchOrder.shuffled(range(self.examples), draws.python)
        return _State(draws, batches, means=[(STUDENT, 0.0)], winners=[STUDENT]).to_json()

    def rollouts_expected(self, first_step: int) -> int:
        return first_step * self.settings.max_steps + (self.settings.num_candidates + 1) * self.examples

    def steps_at_once(self, state: JSON, closed: int) -> int:
        return 1

    def open_step(self, opened: JSON, closed: JSON, step: int, evidence: Evidence, pool: Pool) -> StepPlan | None:
        if step >= self.settings.max_steps:
            return None
        now = _State.from_json(closed)
        batch, now.batches = now.batches.next_batch(self.settings.bsize, now.draws.python)
        top = top_k_with_student(now.means, self.settings.num_candidates)
        means = dict(now.means)
        top_means = [means[number] for number in top]
        pairs = [(model, example) for model in self._models() for example in batch]
        rollouts = tuple(
            Rollout(
                RolloutKey(step, "sample", position),
                softmax_sample(now.draws.python, top, top_means, self.settings.temperature_for_sampling),
                example,
                model,
            )
            for position, (model, example) in enumerate(pairs)
        )
        return StepPlan(step, batch, rollouts, now.next_program, now.to_json(), pool_end=now.next_program)

    def may_continue(self, state: JSON, step: int, evidence: Evidence) -> bool:
        return False

    def _models(self) -> list[ModelSpec]:
        ids = range(self.first_rollout_id, self.first_rollout_id + self.settings.num_candidates)
        models = [ModelSpec(rollout_id=i, temperature=SAMPLING_TEMPERATURE) for i in ids]
        if self.teacher:
            models[0] = ModelSpec("teacher", rollout_id=self.first_rollout_id)
        return models

    def proposals(
        self, plan: StepPlan, buckets: Sequence[BucketScores], failed: int, pool: Pool
    ) -> tuple[Proposal, ...]:
        proposals, _ = self._propose(plan, [bucket.example for bucket in buckets], failed, pool)
        return proposals

    def _propose(
        self, plan: StepPlan, examples: Sequence[int], failed: int, pool: Pool
    ) -> tuple[tuple[Proposal, ...], _State]:
        now = _State.from_json(plan.state)
        top = top_k_with_student(now.means, self.settings.num_candidates)
        means = dict(now.means)
        top_means = [means[number] for number in top]
        proposals: list[Proposal] = []
        for index, example in enumerate(examples[: self.settings.num_candidates + 1 + failed]):
            source = softmax_sample(now.draws.python, top, top_means, self.settings.temperature_for_candidates)
            drop = demos_to_drop(pool.demos(source), self.settings.caps.demos, now.draws)
            strategy = now.draws.python.choice(self.strategies)
            proposals.append(Proposal(index, plan.first_program + index, source, (example,), (strategy,), drop))
        return tuple(proposals), now

    def evaluation(self, plan: StepPlan, proposal: Proposal, pool: Pool) -> tuple[Rollout, ...]:
        first = proposal.index * len(plan.batch)
        return tuple(
            Rollout(RolloutKey(plan.step, "evaluate", first + offset), proposal.program, example)
            for offset, example in enumerate(plan.batch)
        )

    def close_step(self, closed: JSON, tried: TriedStep, evidence: Evidence, pool: Pool) -> StepResult:
        plan, proposals, candidates = tried.plan, tried.proposals, tried.candidates
        failed = len(proposals) - len(candidates)
        examples = [proposal.examples[0] for proposal in proposals]
        _, now = self._propose(plan, examples, failed, pool)
        scores = {program: evidence.mean(program, "evaluate") or 0.0 for program in sorted(candidates)}
        winner = max(scores, key=scores.__getitem__) if scores else None
        now.means.extend(scores.items())
        if winner is not None:
            now.winners.append(winner)
        now.next_program = plan.first_program + len(proposals)
        return StepResult(now.to_json(), scores, winner, best_by_batch(evidence))

    def final_rollouts(self, state: JSON, evidence: Evidence, pool: Pool) -> tuple[Rollout, ...]:
        winners = _State.from_json(state).winners
        rollouts = self._on_whole_trainset(winners, self._finalists(len(winners)))
        return tuple(rollout for rollout in rollouts if not evidence.has(rollout.program, rollout.key))

    def ranking(self, state: JSON, evidence: Evidence, pool: Pool) -> list[tuple[int, float]]:
        winners = _State.from_json(state).winners
        finalists = [winners[index] for index in self._finalists(len(winners))]
        scored = [(program, evidence.mean(program, "final")) for program in finalists]
        if self.final_rollouts(state, evidence, pool):  # The run was cut short: most have run on some examples alone.
            scored = [(program, evidence.own_mean(program)) for program in dict.fromkeys(winners)]
        return sorted(
            ((program, mean) for program, mean in scored if mean is not None),
            key=lambda entry: entry[1],
            reverse=True,
        )

    def clear_winner(
        self, incumbent: int, learned_from: Mapping[int, Collection[int]], evidence: Evidence, pool: Pool
    ) -> ClearWinner | None:
        return clear_winner_by_pairs(evidence, incumbent, learned_from)

    def scores(self, programs: Sequence[int], evidence: Evidence) -> dict[int, float]:
        finals = {program: evidence.mean(program, "final") for program in programs}
        if None in finals.values():
            return {program: evidence.own_mean(program) or 0.0 for program in programs}
        return {program: mean for program, mean in finals.items() if mean is not None}

    def _finalists(self, winners: int) -> list[int]:
        """Return indices into a list of `winners` step winners: `num_candidates + 1`, evenly spaced, each once."""
        last, intervals = winners - 1, self.settings.num_candidates
        return list(dict.fromkeys(round(i * last / intervals) for i in range(intervals + 1)))

    def _on_whole_trainset(self, winners: Sequence[int], indices: Sequence[int]) -> tuple[Rollout, ...]:
        return tuple(
            Rollout(RolloutKey(FINAL_STEP, "final", index * self.examples + example), winners[index], example)
            for index in indices
            for example in range(self.examples)
        )
