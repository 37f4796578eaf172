"""Choosing the winner among all programs of a run, on examples that are fresh to them.

Successive halving: in each round the programs that look best by all that is known get the same number of rollouts, and
each round has fewer programs (Z. Karnin, T. Koren and O. Somekh, "Almost optimal exploration in multi-armed bandits",
ICML 2013). The student takes part in every round, since no program wins without being better than the student beyond
reasonable doubt: a run must not make a working program worse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from simba_actors.search.evidence import Evidence
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.model.scales import beliefs_of, chance_to_be_sure, chance_to_beat
from simba_actors.search.rollout import STUDENT, Rollout, RolloutKey, Split

FINALISTS = (6, 3, 2)
"""Number of programs in each round. Rounds have the same number of rollouts, so fewer programs are measured better, and
more give a chance to one that the search underestimates. Finals changed the gain by 0.00 ± 0.07 in planted worlds,
and half as many finalists by 0.00 ± 0.03 in 240 simulated runs of 500 calls."""

SURE = 0.9
"""Chance of being better than the student that a program needs to win. One winner was worse than the student in 200
simulated runs of 500 calls in which most changes harm or none helps, and none in 200 of 1,500 calls. It was 1 of 200 in
which all changes harm a little. At 0.95 winners gained 3 to 7 % less elsewhere."""

WORTH_FINALS = 0.1
"""Chance that finals name another winner than the student from which they are worth their rollouts. Below it they
gained nothing in simulated runs, and took 7 to 11 % of the rollouts of those in which most changes harm."""


def most_rollouts(examples: int) -> int:
    """Return how many rollouts finals can use, given how many examples are fresh to each finalist.

    A program that stays in for all rounds gets 1/6, 1/3 and 1/2 of a round's rollouts: as many as one round has.
    """
    return len(FINALISTS) * examples


@dataclass(frozen=True, slots=True)
class Finals:
    """Plans the rounds of finals and ranks the programs."""

    valset: int
    """Size of the valset. Finals run on it, or on the trainset if it is empty."""
    rollouts: int
    """Rollouts of all rounds together."""

    @property
    def split(self) -> Split:
        return "val" if self.valset else "train"

    def next_round(
        self, model: PartModel, evidence: Evidence, examples: Callable[[int], Iterable[int]], rounds_before: int
    ) -> tuple[Rollout, ...]:
        """Plan the next round. Return no rollouts once the winner can be named.

        `examples` returns those that a program has not run on. `rounds_before` counts the rounds of earlier finals,
        after which the search continued.
        """
        number = evidence.rounds - rounds_before
        if number >= len(FINALISTS):
            return ()
        on_valset = number and self.valset  # On the trainset, programs that look better by now may still join.
        estimates = self._estimates(model, evidence) if on_valset else self._estimates_of_search(model, evidence)
        share = self.rollouts // len(FINALISTS)
        # A small valset or budget has fewer finalists, in place of rounds without rollouts.
        most = min(FINALISTS[number], share) if self.valset else FINALISTS[number]
        best = list(estimates)[:most]
        if not best or most < 2:
            return ()
        finalists = best if STUDENT in best else [*best[:-1], STUDENT]
        if number == 0 and not self._may_name_another(model, finalists):
            return ()
        each = share // len(finalists)
        planned = [(program, example) for program in finalists for example in islice(examples(program), each)]
        return tuple(
            Rollout(RolloutKey.of_final(evidence.rounds, n), program, example, split=self.split)
            for n, (program, example) in enumerate(planned)
        )

    def _may_name_another(self, model: PartModel, finalists: Sequence[int]) -> bool:
        """Return whether another program than the student may still win, so that finals are worth their rollouts.

        With a valset they always are: what the winner scores there is part of the result.
        """
        if self.valset or STUDENT not in model.qualities:
            return True
        beliefs, rollouts = beliefs_of(model), self.rollouts // len(FINALISTS)
        chances = (
            max(
                chance_to_beat(model, beliefs, program, STUDENT) >= SURE,
                chance_to_be_sure(model, beliefs, program, STUDENT, SURE, rollouts),
            )
            for program in finalists
        )
        return sum(chances) >= WORTH_FINALS

    def ranking(self, model: PartModel, evidence: Evidence) -> list[tuple[int, float]]:
        """Return the programs that may win with their scores, the winner first.

        The winner is the best program that is better than the student with a chance of `SURE`. If there is none, the
        student wins. Once there are finals, a program needs as many rollouts as each finalist made there: an estimate
        from two may be right, but nobody would trust it. The programs are ordered by estimates, and each comes with the
        mean of its own rollouts, on the valset if it ran there.
        """
        estimates = self._estimates(model, evidence)
        ranked = list(estimates)[: FINALISTS[0]]
        if STUDENT in estimates and STUDENT not in ranked:
            ranked.append(STUDENT)
        beliefs = beliefs_of(model)
        ranked.sort(key=lambda program: program != STUDENT and chance_to_beat(model, beliefs, program, STUDENT) < SURE)
        own = {program: self.score(program, evidence) for program in ranked}
        return [(p, estimates[p] if score is None else score) for p, score in own.items()]

    def score(self, program: int, evidence: Evidence) -> float | None:
        """Return the mean of the program's own rollouts, on the valset if it ran there; None if it has none."""
        on_valset = evidence.mean(program, "final") if self.valset else None
        return evidence.own_mean(program) if on_valset is None else on_valset

    def _estimates(self, model: PartModel, evidence: Evidence) -> dict[int, float]:
        """Return the estimate of each program that may win, the best first.

        With a valset these are the finalists, ordered by the rounds that they stayed in, then by their mean on it, and
        by the model's estimate where the means are equal. Otherwise they are ordered by the model's estimate from all
        rollouts, and others may win too: a program that has run on all examples makes no rollouts in finals.
        """
        rounds, of_search = self._rounds_by_program(model, evidence), self._estimates_of_search(model, evidence)
        if not rounds:
            return of_search
        if not self.valset:
            fewest = min(len(evidence.of(program, "final")) for program in rounds)
            return {p: of_search[p] for p in of_search if len(evidence.of(p)) >= fewest or p == STUDENT}
        means = {program: evidence.mean(program, "final") or 0.0 for program in of_search if program in rounds}
        ranked = sorted(means, key=lambda program: (-rounds[program], -means[program]))
        return {program: means[program] for program in ranked}

    def _rounds_by_program(self, model: PartModel, evidence: Evidence) -> dict[int, int]:
        """Return the number of rounds in which each finalist has any results. A budget may end amid a round."""
        rounds = {
            program: len({score.key.round_number for score in evidence.of(program, "final")})
            for program in model.programs
        }
        if STUDENT in rounds:  # It is in every round. One in which only it has results so far does not count.
            longest = max((count for program, count in rounds.items() if program != STUDENT), default=0)
            rounds[STUDENT] = min(rounds[STUDENT], longest) or rounds[STUDENT]
        return {program: count for program, count in rounds.items() if count}

    def _estimates_of_search(self, model: PartModel, evidence: Evidence) -> dict[int, float]:
        """Return the model's estimate of each program that has run, the best first."""
        qualities = model.qualities
        tried = set(evidence.programs()).intersection(qualities)
        ranked = sorted(tried, key=lambda program: (-qualities[program], program))
        return {program: model.range.from_unit(qualities[program]) for program in ranked}
