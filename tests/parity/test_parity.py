"""`policy="dspy"` and the installed `dspy.SIMBA`, side by side on an LM whose replies are fixed."""

from __future__ import annotations

import contextlib
import inspect
import io
from collections import Counter
from pathlib import Path
from typing import Any

import dspy
import pytest

import simba_actors
from tests.parity.scenarios import SCENARIOS, Scenario
from tests.support.scripted_lm import Ask, ScriptedLM

CASES = [(name, seed) for name in SCENARIOS for seed in ((0,) if name == "defaults" else (0, 1, 2))]
"""Scenarios and their seeds. The one with DSPy's default settings takes ten times as long as the others."""

RESOLVED_LATER = "max_steps"
"""The parameter whose default depends on the policy. The scenario "defaults" shows that it is DSPy's."""


def compiled_by_dspy(scenario: Scenario, seed: int) -> tuple[Any, list[Ask]]:
    asks: list[Ask] = []
    teacher = {"lm": ScriptedLM(scenario.script, asks=asks, temperature=0.7)} if scenario.teacher else None
    optimizer = dspy.SIMBA(
        metric=scenario.metric, prompt_model=None, teacher_settings=teacher, num_threads=4, **scenario.settings
    )
    optimizer.prompt_model = None  # What is given to the constructor is replaced there by the global LM of that moment.
    with dspy.context(lm=ScriptedLM(scenario.script, asks=asks)), contextlib.redirect_stdout(io.StringIO()):
        result = optimizer.compile(scenario.student(), trainset=scenario.trainset(scenario.rows), seed=seed)
    return result, asks


def compiled_by_us(scenario: Scenario, seed: int, store: Path) -> tuple[Any, list[Ask]]:
    asks: list[Ask] = []
    teacher = {"lm": ScriptedLM(scenario.script, asks=asks, temperature=0.7)} if scenario.teacher else None
    optimizer = simba_actors.SIMBA(
        metric=scenario.metric,
        teacher_settings=teacher,
        num_threads=4,
        policy="dspy",
        store=store,
        **scenario.settings,
    )
    with dspy.context(lm=ScriptedLM(scenario.script, asks=asks)):
        result = optimizer.compile(scenario.student(), trainset=scenario.trainset(scenario.rows), seed=seed)
    return result, asks


def state(program: Any) -> dict[str, Any]:
    return {
        name: (predictor.signature.instructions, [demo.toDict() for demo in predictor.demos])
        for name, predictor in program.named_predictors()
    }


def test_parameters_have_the_same_defaults_as_in_dspy() -> None:
    theirs, ours = (inspect.signature(kind).parameters for kind in (dspy.SIMBA, simba_actors.SIMBA))
    names = theirs.keys() - {RESOLVED_LATER}
    assert {name: ours[name].default for name in names} == {name: theirs[name].default for name in names}


@pytest.mark.parametrize(("name", "seed"), CASES)
def test_every_draw_is_the_same_as_in_dspy(name: str, seed: int, tmp_path: Path) -> None:
    theirs, their_asks = compiled_by_dspy(SCENARIOS[name], seed)
    ours, our_asks = compiled_by_us(SCENARIOS[name], seed, tmp_path / "simba.db")

    assert state(ours) == state(theirs)
    assert [entry["score"] for entry in ours.candidate_programs] == [
        entry["score"] for entry in theirs.candidate_programs
    ]
    assert [state(entry["program"]) for entry in ours.candidate_programs] == [
        state(entry["program"]) for entry in theirs.candidate_programs
    ]
    # The prompts that were sent show every batch, pick, candidate and rule, those of losers too.
    assert Counter(our_asks) == Counter(their_asks)
