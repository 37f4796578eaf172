"""Choosing the winner among all programs of a run, on examples that are fresh to them.

Successive halving (Karnin, Koren and Somekh, "Almost optimal exploration in multi-armed bandits", 2013): in each round
the programs that look best by all that is known get the same number of rollouts, and each round has fewer programs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simba_actors.search.evidence import Evidence
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.plan import Rollout, RolloutKey, Split
from simba_actors.search.policy import FINAL_STEP

FINALISTS = (6, 3, 2)
"""How many programs each round has."""

POSITIONS = 100_000
"""Room for the rollouts of one round."""


def most_rollouts(rows: int) -> int:
    """What finals can use where so many `rows` are fresh to each finalist.

    Who comes through all rounds runs on 1/6, 1/3 and 1/2 of a round's rollouts: on as many rows as a round has.
    """
    return len(FINALISTS) * rows


@dataclass(frozen=True, slots=True)
class Finals:
    """`rollouts` in all; on the valset where it has rows, otherwise on the trainset."""

    valset: int
    rollouts: int

    @property
    def split(self) -> Split:
        return "val" if self.valset else "train"

    def rounds(self, evidence: Evidence) -> int:
        """How many rounds there were."""
        known = [score.key.position for program in evidence.programs() for score in evidence.of(program, "final")]
        return max(known) // POSITIONS + 1 if known else 0

    def next_round(
        self, model: PartModel, evidence: Evidence, rows: Callable[[int], Sequence[int]], rounds_before: int
    ) -> tuple[Rollout, ...]:
        """The rollouts of the next round, none when the winner can be named.

        `rows` are those left for a program; `rounds_before` are of finals that the search went on after.
        """
        rounds = self.rounds(evidence)
        number = rounds - rounds_before
        if number >= len(FINALISTS):
            return ()
        finalists = [program for program, _ in self.ranking(model, evidence)[: FINALISTS[number]]]
        each = self.rollouts // len(FINALISTS) // len(finalists)
        planned = [(program, row) for program in finalists for row in rows(program)[:each]]
        first = rounds * POSITIONS
        return tuple(
            Rollout(RolloutKey(FINAL_STEP, "final", first + n), program, row, split=self.split)
            for n, (program, row) in enumerate(planned)
        )

    def ranking(self, model: PartModel, evidence: Evidence) -> list[tuple[int, float]]:
        """The best programs with their estimates, in the metric's units.

        By the mean on the valset, those first that were tried on more of it; without one, by what the model makes of
        all rollouts.
        """
        validated = {program: len(evidence.of(program, "final")) for program in model.programs} if self.valset else {}
        if any(validated.values()):
            means = {program: evidence.mean(program, "final") or 0.0 for program, count in validated.items() if count}
            ranked = sorted(means, key=lambda program: (-validated[program], -means[program], program))
            return [(program, means[program]) for program in ranked]
        qualities = model.qualities(model.likely)
        ranked = sorted(qualities, key=lambda program: (-qualities[program], program))[: FINALISTS[0]]
        return [(program, model.range.from_unit(qualities[program])) for program in ranked]
