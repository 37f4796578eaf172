"""What it costs the winner that several steps are open at a time, in planted worlds and without an LM.

    python -m tests.benchmarks.overlap                      # 49 worlds, one step at a time and up to four
    python -m tests.benchmarks.overlap --seeds 14 --at-once 1 3 4

The adaptive policy runs as in a run of its own, but replies are drawn from the hidden rule of a world at once, without
DSPy. So a run takes seconds. As in a real one, the first step is open alone, the next two together, and so on.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # Worlds run side by side; threads within one would only compete.

from simba_actors.config import STEPS
from simba_actors.search.evidence import Score
from simba_actors.search.model.examples import ExampleText
from simba_actors.search.model.parts import Part
from simba_actors.search.policy import Proposal
from simba_actors.search.rollout import STUDENT, Rollout
from tests.benchmarks.worlds.families import EXAMPLES, FAMILIES, world_of
from tests.benchmarks.worlds.lm import INSIGHT, TOPICS_AT_ONCE
from tests.benchmarks.worlds.tasks import (
    GOOD_LEAD,
    HELD_OUT,
    LEAD_GAIN,
    LEADS,
    POOR_LEAD,
    led,
    question,
    right_parts,
    shown,
)
from tests.benchmarks.worlds.world import HABITS, World, logit, topic_of
from tests.search.adaptive.simulation import Programs, run

CALLS = 4_750
WORLDS = ("few_topics", "many_topics", "graded", "pipeline", "noisy", "crowded", "labels")
"""The families of the published figures."""

WITH_TEXTS = {"defective_seed", "feedback"}
"""Families whose student has instructions of its own, or whose metric has a text."""


@dataclass
class PlantedPrograms(Programs):
    """Programs of a planted world, in the terms of the search."""

    world: World
    size: int = 200
    parts_of: dict[int, tuple[Part, ...]] = field(default_factory=lambda: {STUDENT: ()})
    best_samples: dict[tuple[int, int], tuple[float, list[str]]] = field(
        default_factory=dict[tuple[int, int], tuple[float, list[str]]]
    )
    """The best score that a step has sampled for an example, and the predictors' replies."""

    def __post_init__(self) -> None:
        self.seed = self.world.seed
        self.questions = [question(self.world, number) for number in range(self.size)]
        self.answers = [" ".join(right_parts(self.world, asked)) for asked in self.questions]
        self.examples: Sequence[ExampleText] = tuple(
            ExampleText(f"{asked} {answer}", {"answer": answer})
            for asked, answer in zip(self.questions, self.answers, strict=True)
        )
        self.strategies: tuple[str, ...] = ("append_a_demo", "learn_from_failures", "merge_rules", "recombine")
        self.predictors = self.world.stages
        self.fields = (*LEADS[self.world.stages], "answer")
        """The output of each predictor."""

    def demos(self, program: int) -> int:
        return max(sum(part.kind == "demo" for part in self._of_stage(program, stage)) for stage in self._stages())

    def quality(self, program: int) -> float:
        """Return the program's true quality."""
        held_out = [question(self.world, number) for number in range(1_000_000, 1_000_000 + HELD_OUT)]
        return statistics.mean(self._chance(program, asked) for asked in held_out)

    def make(self, proposal: Proposal, step: int) -> bool:
        """Make the program of a proposal. Return whether a strategy had something to add."""
        known = {part.part_id: part for parts in self.parts_of.values() for part in parts}
        parts = [known[part_id] for part_id in proposal.parts or ()]
        for strategy in proposal.strategies:
            if strategy == "recombine":
                new: list[Part] = []
            elif strategy == "append_a_demo":
                new = self._demo(step, proposal.examples[0])
            elif strategy == "learn_from_failures":
                new = self._rules(proposal)
            else:
                new = []  # The rules of these worlds are never long enough to be merged.
            new = [part for part in new if part not in parts]
            if new or strategy == "recombine":
                self.parts_of[proposal.program] = (*parts, *new)
                return True
        return False

    def score(self, rollout: Rollout) -> Score:
        """Run a rollout."""
        program, asked = self.parts(rollout.program), self.questions[rollout.example]
        draw = partial(self.world.chance, "reply", program, rollout.example, rollout.model)
        led_by, replies = "", list[str]()
        for stage, name in enumerate(self.fields):
            chance = self._stage_chance(rollout.program, stage, asked)
            if stage > 0:
                chance = led(chance, LEAD_GAIN if led_by == GOOD_LEAD else -LEAD_GAIN)
            if name == "answer":
                right = right_parts(self.world, asked)
                reply = " ".join(part if draw(stage, n) < chance else "000" for n, part in enumerate(right))
            else:
                reply = led_by = GOOD_LEAD if draw(stage) < chance else POOR_LEAD
            replies.append(reply)
        found = share_alike(replies[-1], self.answers[rollout.example])
        if rollout.key.phase == "sample":
            key = rollout.key.step, rollout.example
            if key not in self.best_samples or self.best_samples[key][0] < found:
                self.best_samples[key] = found, replies
        return Score(rollout.key, rollout.program, rollout.example, found, rollout.model, rollout.split)

    def _stages(self) -> range:
        return range(self.world.stages)

    def _of_stage(self, program: int, stage: int) -> list[Part]:
        return [part for part in self.parts(program) if part.predictor == self.fields[stage]]

    def _stage_chance(self, program: int, stage: int, asked: str) -> float:
        parts = self._of_stage(program, stage)
        advice = "\n\n".join(part.text for part in parts if part.kind == "rule")
        demos = [
            shown(self.world, part.fields["question"], stage, part.fields[self.fields[stage]])
            for part in parts
            if part.kind == "demo"
        ]
        return self.world.quality(stage, advice, demos, asked)

    def _chance(self, program: int, asked: str) -> float:
        good, *others = [self._stage_chance(program, stage, asked) for stage in self._stages()]
        for chance in others:
            good = good * led(chance, LEAD_GAIN) + (1 - good) * led(chance, -LEAD_GAIN)
        return good

    def _demo(self, step: int, example: int) -> list[Part]:
        """Return a demo for each predictor from the best sample of an example; none if it failed."""
        score, replies = self.best_samples[step, example]
        if score <= 0:
            return []
        asked = self.questions[example]
        fields = [{"question": asked, name: reply} for name, reply in zip(self.fields, replies, strict=True)]
        return [
            self._part(name, "demo", " ".join(of.values()), of) for name, of in zip(self.fields, fields, strict=True)
        ]

    def _rules(self, proposal: Proposal) -> list[Part]:
        """Return a rule for each predictor and topic, as the simulated LM of planted worlds writes them."""
        asked = [self.questions[example] for example in proposal.examples]
        topics = list(dict.fromkeys(map(topic_of, asked)))[:TOPICS_AT_ONCE]
        return [
            self._part(self.fields[stage], "rule", self._advice(stage, topic, proposal), {})
            for stage in self._stages()
            for topic in topics
        ]

    def _advice(self, stage: int, topic: str, proposal: Proposal) -> str:
        draw = partial(self.world.chance, "advice", stage, topic, proposal.program)
        about = topic if draw("about") > 0.12 else "everything"
        habits = sorted(HABITS, key=lambda habit: draw("habit", habit))
        if draw("insight") < INSIGHT:
            habits.sort(key=lambda habit: self.world.worth(stage, about, habit) <= 0)
        return f"About {about}: {habits[0]}."

    def _part(self, predictor: str, kind: Literal["rule", "demo"], text: str, fields: dict[str, str]) -> Part:
        return Part(f"{predictor} {kind} {text}", predictor, kind, text, fields)


def share_alike(given: str, expected: str) -> float:
    return statistics.mean(a == b for a, b in zip(given.split(), expected.split(), strict=True))


def gain_of(family: str, seed: int, calls: int, at_once: int, steps: int = STEPS["adaptive"]) -> float:
    """Return the true gain of the winner over the student, in log-odds, with up to that many steps at once."""
    programs = PlantedPrograms(world_of(family, seed), EXAMPLES.get(family, 200))
    found = run(programs, calls, steps_at_once=lambda closed: min(at_once, 1 + closed), max_steps=steps)
    return logit(programs.quality(found.winner)) - logit(programs.quality(STUDENT))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 2, 3, 4], help="most steps to have open")
    parser.add_argument("--calls", type=int, default=CALLS, help="calls of each predictor")
    parser.add_argument("--steps", type=int, default=STEPS["adaptive"], help="most steps of a run")
    parser.add_argument("--seeds", type=int, default=7, help="worlds of each family")
    parser.add_argument("--families", nargs="*", default=list(WORLDS), choices=sorted(set(FAMILIES) - WITH_TEXTS))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    chosen = parser.parse_args(arguments)
    worlds = [(family, seed) for family in chosen.families for seed in range(chosen.seeds)]
    with multiprocessing.get_context("spawn").Pool(chosen.processes) as pool:
        running = {
            at_once: [pool.apply_async(gain_of, (*world, chosen.calls, at_once, chosen.steps)) for world in worlds]
            for at_once in chosen.at_once
        }
        least, *others = ([gain.get() for gain in gains] for gains in running.values())
    mean = statistics.mean(least)
    print(f"{chosen.at_once[0]} at once: mean gain {mean:.2f} in {len(worlds)} worlds")
    for at_once, gains in zip(chosen.at_once[1:], others, strict=True):
        change, half = with_interval([gain - before for gain, before in zip(gains, least, strict=True)])
        print(f"{at_once} at once: {change / mean:+.1%} ± {half / mean:.1%}")


def with_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half of its 95 % interval."""
    return statistics.mean(values), 1.96 * statistics.stdev(values) / len(values) ** 0.5


if __name__ == "__main__":
    main()
