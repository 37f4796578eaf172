"""The simulated LM of a world: it answers by the hidden rule, and writes advice when it is shown runs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from tests.benchmarks.worlds.tasks import (
    GOOD_LEAD,
    LEAD_GAIN,
    LEADS,
    POOR_LEAD,
    cause_of_failure,
    led,
    right_parts,
    shown,
)
from tests.benchmarks.worlds.world import ADVICE, HABITS, TOPIC_OF_QUESTION, Shown, World, topic_of
from tests.support.scripted_lm import Ask, ScriptedLM

QUESTION = re.compile(r"This is question \d+ on \w+\.")
CAUSE = re.compile(rf"It did not ({'|'.join(HABITS)})\.")
TOPICS_AT_ONCE = 2
"""Maximum number of topics in the advice of one reply, however many runs it was shown."""

INSIGHT = 0.3
"""Chance that the writer picks a habit that helps, where it would otherwise choose blindly."""


def world_lm(world: World, **kwargs: Any) -> ScriptedLM:
    return ScriptedLM(lambda ask: reply(world, ask), **kwargs)


def reply(world: World, ask: Ask) -> dict[str, Any] | str:
    if "module_advice" in ask.fields:
        return {"discussion": "It went wrong.", "module_advice": _advice_for_modules(world, ask)}
    if "new_instruction" in ask.fields:
        return {"new_instruction": _new_instruction(world, ask)}
    asked = QUESTION.findall(ask.last)
    if not asked or not set(ask.fields) & {"answer", *LEADS[world.stages]}:
        return {field: _advice(world, ask, 0, "", field) for field in ask.fields} or "Nothing to say."
    return _attempt(world, ask, asked[-1])


def _attempt(world: World, ask: Ask, asked: str) -> dict[str, Any]:
    leads = LEADS[world.stages]
    lead = next((name for name in leads if name in ask.fields), None)
    stage = len(leads) if lead is None else leads.index(lead)
    chance = world.quality(stage, ask.system, _demos(world, ask, stage), asked)
    if stage > 0:
        chance = led(chance, LEAD_GAIN if GOOD_LEAD in ask.last else -LEAD_GAIN)
    if lead is not None:
        return {lead: GOOD_LEAD if ask.chance(lead) < chance else POOR_LEAD}
    parts = [part if ask.chance(n) < chance else "000" for n, part in enumerate(right_parts(world, asked))]
    values = {"answer": " ".join(parts)}
    return {field: values.get(field, "Let me see.") for field in ask.fields}


def _demos(world: World, ask: Ask, stage: int) -> list[Shown]:
    demos: list[Shown] = []
    for (role, text), (_, answered) in zip(ask.messages, ask.messages[1:], strict=False):
        asked = QUESTION.findall(text)
        if role == "user" and asked:
            demos.append(shown(world, asked[-1], stage, answered.partition("[[ ## completed")[0]))
    return demos


def _advice_for_modules(world: World, ask: Ask) -> dict[str, str]:
    topics = list(dict.fromkeys(TOPIC_OF_QUESTION.findall(ask.input("program_inputs"))))[:TOPICS_AT_ONCE]
    modules: list[str] = json.loads(ask.input("module_names"))
    return {
        module: "\n".join(_advice(world, ask, stage, topic, module) for topic in topics or ["everything"])
        for stage, module in enumerate(modules)
    }


def _named_cause(world: World, ask: Ask, topic: str) -> str | None:
    """Return the habit that the metric's text names for a topic, if the writer was shown one."""
    if not world.names_cause:
        return None
    for asked in QUESTION.findall(ask.last):
        cause = CAUSE.search(cause_of_failure(world, asked))
        if topic_of(asked) == topic and cause is not None and cause[0] in ask.last:
            return cause[1]
    return None


def _new_instruction(world: World, ask: Ask) -> str:
    """Return a reflection for `dspy.GEPA`: the current instruction, with advice on what went wrong."""
    runs = ask.input("examples_with_feedback")
    topics = list(dict.fromkeys(TOPIC_OF_QUESTION.findall(runs)))
    topics.sort(key=lambda topic: ask.chance("attention", topic))
    inputs = runs.partition("Generated Outputs")[0]
    stage = max((n + 1 for n, lead in enumerate(LEADS[world.stages]) if f"## {lead}" in inputs), default=0)
    advice = [_advice(world, ask, stage, topic, "reflection") for topic in topics[:TOPICS_AT_ONCE]]
    return "\n\n".join([_mended(world, ask, stage, topics), *advice])


def _mended(world: World, ask: Ask, stage: int, topics: Sequence[str]) -> str:
    """Return the current instruction without the harmful sentences on these topics that the writer notices."""

    def kept(found: re.Match[str]) -> str:
        topic, habit = found.groups()
        noticed = topic in topics and world.worth(stage, topic, habit) < 0
        return "" if noticed and ask.chance("mended", found[0]) < INSIGHT else found[0]

    return ADVICE.sub(kept, ask.input("current_instruction")).strip()


def _advice(world: World, ask: Ask, stage: int, topic: str, salt: str) -> str:
    """Return a habit for a topic, or sometimes one for everything. Insight makes a helpful one more likely."""
    about = topic if topic and ask.chance("about", salt, topic) > 0.12 else "everything"
    habits = sorted(HABITS, key=lambda habit: ask.chance("habit", salt, topic, habit))
    if (named := _named_cause(world, ask, topic)) is not None:
        habits = [named, *habits]
        about = topic
    elif ask.chance("insight", salt, topic) < INSIGHT:
        habits.sort(key=lambda habit: world.worth(stage, about, habit) <= 0)
    return f"About {about}: {habits[0]}."
