"""The hidden rule of a planted world: how likely a prompt is to be answered well.

Questions are about topics. Advice (`About rivers: check the units.`) and demos in a prompt raise or lower the log-odds
of a good reply, mostly on their own topic. What each is worth is fixed by a hash, and no optimizer can see it.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

TOPICS = (
    *("rivers", "violins", "bridges", "comets", "bakeries", "orchids", "castles"),
    *("engines", "glaciers", "sonnets", "harbours", "beetles", "markets", "volcanoes"),
)
HABITS = (
    *("check the units", "name the source", "start from the end", "look for a pattern", "mind the exceptions"),
    *("count twice", "draw a table", "compare both sides", "prefer the older reading", "ignore the numbers"),
    *("trust the first guess", "answer with a synonym", "skip the details", "quote the question", "restate the aim"),
    *("list the parts", "take the average", "assume the worst", "look at the last word", "think of a counterexample"),
)
ADVICE = re.compile(rf"About ({'|'.join(TOPICS)}|everything): ({'|'.join(HABITS)})\.")
TOPIC_OF_QUESTION = re.compile(rf"question \d+ on ({'|'.join(TOPICS)})\b")


@dataclass(frozen=True)
class Shown:
    """A demo in a prompt: its question, and the share of it that was answered right."""

    question: str
    right: float


@dataclass(frozen=True)
class World:
    """The numbers behind a world; effects are in log-odds.

    Args:
        topics: How many of `TOPICS` questions are about.
        stages: 1, or 2 for a hint and then an answer that leans on it.
        parts: Things to get right in an answer; above 1 the metric is graded.
        base: Log-odds of the bare student on a question of middling difficulty.
        hardness: Standard deviation of the questions' difficulty.
        noise: Chance that a reply has nothing to do with the prompt's merits.
        good_advice, bad_advice: Shares of a topic's habits that help and that harm.
        advice_gain: What the best habits are worth on their topic.
        demo_gain: What a good demo is worth on its topic.
        misleading: Share of questions that harm as demos, however well they were answered.
        roomy: Advice and demos that a prompt can hold before it suffers.
        crowding: What each further one costs.
        labels: Where above 0, answers are so many labels, and a topic has one of them.
        label_pull: What demos of a label draw the LM towards it by, wrongly or rightly.
        merits, defects: Sentences of the student's own instructions that help, and that harm, each on one topic.
        tail: How much more frequent the first topics are than the last; 1 for all alike.
        names_cause: How often the metric's text says what a failed reply should have minded.
    """

    name: str
    seed: int
    topics: int = 5
    stages: int = 1
    parts: int = 1
    base: float = -0.6
    hardness: float = 1.0
    noise: float = 0.0
    good_advice: float = 0.45
    bad_advice: float = 0.25
    advice_gain: float = 1.6
    demo_gain: float = 0.5
    misleading: float = 0.15
    roomy: int = 8
    crowding: float = 0.12
    labels: int = 0
    label_pull: float = 0.0
    merits: int = 0
    defects: int = 0
    tail: float = 1.0
    names_cause: float = 0.0

    def chance(self, *salt: object) -> float:
        """Return this world's number in [0, 1) for `salt`."""
        return _hashed(f"{self.name}|{self.seed}|{salt}")

    def quality(self, stage: int, instructions: str, demos: Sequence[Shown], question: str) -> float:
        """Return the chance that a part of the reply to `question` is right, given the prompt."""
        topic = topic_of(question)
        advice = _advice_in(instructions)
        logit = self.base - self._difficulty(question) + self._advice_effect(stage, dict.fromkeys(advice), topic)
        logit += self._demo_effect(demos, topic)
        surplus = max(0, len(advice) + len(demos) - self.roomy)
        logit -= self.crowding * surplus**1.2
        if self.labels:
            logit += self._label_effect([self.label_of(demo.question) for demo in demos], self.label_of(question))
        return self.noise / 2 + (1 - self.noise) * sigmoid(logit)

    def label_of(self, question: str) -> int:
        """Return the right label for a question."""
        return TOPICS.index(topic_of(question)) % self.labels

    def _label_effect(self, shown: Sequence[int], right: int) -> float:
        """Return the log-odds of the right label against the others, from the leanings of the LM and of the demos."""
        leanings = [
            2.0 * self.chance("leaning", label) + self.label_pull * math.sqrt(shown.count(label))
            for label in range(self.labels)
        ]
        others = [math.exp(leaning) for label, leaning in enumerate(leanings) if label != right]
        return leanings[right] - math.log(sum(others) / len(others))

    def _difficulty(self, question: str) -> float:
        uniform = min(max(self.chance("difficulty", question), 1e-6), 1 - 1e-6)
        return self.hardness * 0.55 * math.log(uniform / (1 - uniform))

    def _advice_effect(self, stage: int, advice: Collection[tuple[str, str]], topic: str) -> float:
        own = [self.worth(stage, about, habit) for about, habit in advice if about == topic]
        general = [self.worth(stage, about, habit) * 0.35 for about, habit in advice if about == "everything"]
        gain = sum(worth for worth in own + general if worth > 0)
        harm = sum(worth for worth in own + general if worth < 0)
        most = 1.6 * self.advice_gain
        return most * math.tanh(gain / most) + harm

    def worth(self, stage: int, topic: str, habit: str) -> float:
        """Return the effect of a habit on its topic."""
        drawn, size = self.chance("kind", stage, topic, habit), 0.5 + 0.5 * self.chance("size", stage, topic, habit)
        if drawn < self.good_advice:
            return self.advice_gain * size
        return -0.9 * self.advice_gain * size if drawn > 1 - self.bad_advice else 0.0

    def own_instructions(self, stage: int) -> str:
        """Return the sentences of the student's own instructions for a stage: none, or helpful and harmful ones."""
        topics = TOPICS[: self.topics]
        chosen = [(topics[n % self.topics], n < self.merits) for n in range(self.merits + self.defects)]
        chosen.sort(key=lambda entry: self.chance("own", stage, entry))
        return " ".join(f"About {topic}: {self.habit(stage, topic, helps=helps)}." for topic, helps in chosen)

    def habit(self, stage: int, topic: str, *, helps: bool) -> str:
        """Return the best habit for a topic, or the worst."""
        return sorted(HABITS, key=lambda habit: self.worth(stage, topic, habit))[-1 if helps else 0]

    def _demo_effect(self, demos: Sequence[Shown], topic: str) -> float:
        effect, alike, seen = 0.0, 0.0, Counter[str]()
        for demo in demos:
            seen[demo.question] += 1
            if seen[demo.question] > 1:
                continue
            if self.chance("misleads", demo.question) < self.misleading:
                effect -= 0.5
            elif demo.right < 0.5:
                effect -= 0.6
            else:
                alike += demo.right * (1.0 if topic_of(demo.question) == topic else 0.15)
        return effect + self.demo_gain * math.sqrt(alike) * 1.5


def topic_of(question: str) -> str:
    found = TOPIC_OF_QUESTION.search(question)
    return found[1] if found else TOPICS[0]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def logit(p: float) -> float:
    return math.log(p / (1 - p))


@lru_cache(maxsize=1_000)
def _advice_in(instructions: str) -> list[tuple[str, str]]:
    return ADVICE.findall(instructions)


@lru_cache(maxsize=200_000)
def _hashed(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
