"""How the rollouts of a run are spread over its steps and its finals, and how many steps are open at a time."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from simba_actors.search.adaptive.finals import most_rollouts
from simba_actors.search.settings import SearchSettings

FINAL_SHARE = 0.18
"""Largest share of all rollouts that goes into choosing the winner."""

FINALS_USED = 0.6
"""Share of the rollouts for the finals that they usually make: the winner is often known before."""

LEAST_EXAMPLES = 4
"""Minimum examples sampled per step."""

LEAST_STEP = 3 * LEAST_EXAMPLES
"""Fewest rollouts of a step: two samples of each example, and half as many to evaluate what was learned from them."""

ROUNDS = 12
"""How long a step waits for replies one after the other, in units of a rollout: two for its samples and the rollouts of
its candidates, and ten for its rules, since their writer is often a larger LM that reads and writes more."""

ROLLOUTS_PER_OPEN_STEP = 1_000
"""Rollouts of the whole search for each step that may be open besides the oldest."""

STEPS_PER_OPEN_STEP = 4
"""Steps of the whole search for each step that may be open: a search needs some steps that learn from others."""


def least_rollouts(bsize: int) -> int:
    """Return the fewest rollouts of a run that can learn anything: those of one step, and of the finals after it."""
    step = max(LEAST_STEP, bsize // 2)
    return next(rollouts for rollouts in itertools.count(step) if rollouts - int(rollouts * FINAL_SHARE) >= step)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The rollouts of a run, step by step."""

    rollouts: int
    """Maximum number of rollouts of the whole run."""
    finals: int
    """Number of rollouts of the finals."""
    max_steps: int
    bsize: int

    @classmethod
    def of(cls, rollouts: int, fresh: int, settings: SearchSettings) -> Schedule:
        """Return the schedule of a run with `rollouts` rollouts whose finalists have `fresh` fresh examples."""
        finals = min(int(rollouts * FINAL_SHARE), most_rollouts(fresh))
        return cls(rollouts, finals, settings.max_steps, settings.bsize)

    @property
    def search(self) -> int:
        """Number of rollouts of all steps together."""
        return self.rollouts - self.finals

    @property
    def per_step(self) -> int:
        """Usual number of rollouts per step."""
        return max(self.search // self.max_steps, self.bsize, LEAST_STEP)

    def planned(self, step: int, spent: int, steps: int) -> int:
        """Return how many rollouts a step may make after `spent` rollouts; 0 if the search is over."""
        left = self.search - spent
        if step >= steps or left < self.per_step // 2:
            return 0
        return min(left, max(self.per_step, left // (steps - step)))

    def steps(self, step: int, planned: int, rollouts: int) -> int:
        """Return the number of steps of the run.

        A search that was over at `step` gets more steps if the run had fewer `rollouts` before. `planned` is the number
        of steps that it had; 0 for the setting.
        """
        steps = planned or self.max_steps
        return step + self.max_steps if step >= steps and self.has_grown(rollouts) else steps

    def has_grown(self, rollouts: int) -> bool:
        """Return whether the run may make more rollouts than before; 0 stands for an unknown number."""
        return 0 < rollouts < self.rollouts

    def expected(self, first_step: int) -> int:
        """Return about how many rollouts the run makes, given how many its first step made."""
        # Later steps use the same share of their planned rollouts as the first one.
        share, spent = first_step / self.planned(0, 0, self.max_steps), first_step
        for step in range(1, self.max_steps):
            spent += round(share * self.planned(step, spent, self.max_steps))
        return spent + round(FINALS_USED * self.finals)


def steps_at_once(concurrency: int, rollouts_per_step: int, search: int) -> int:
    """Return the most steps to keep open, so that `concurrency` rollouts are in flight where the search can bear it.

    `search` is the number of rollouts of all steps together.

    A step waits for replies three times: for its samples, its rules, and the rollouts of its candidates. By itself it
    leaves slots idle each time. Other open steps fill them, but a plan lacks the findings of every step that is open.
    In simulated runs with 4,000 rollouts, 5 steps at once cost nothing that can be told from noise. With
    1,500, 2 steps cost 2 % of the gain, 3 up to 3 % and 5 up to 12 %. Larger steps would fill the slots too, but cost
    more.
    """
    needed = math.ceil(ROUNDS * concurrency / rollouts_per_step)
    steps = search // rollouts_per_step
    return max(1, min(needed, 1 + search // ROLLOUTS_PER_OPEN_STEP, steps // STEPS_PER_OPEN_STEP))
