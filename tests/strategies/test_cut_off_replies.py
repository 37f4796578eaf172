"""No text from a reply that was cut off gets into a program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simba_actors.store import Reader
from simba_actors.strategies import AppendADemo, LearnFromFailures, MergeRules, Recombine
from tests.support.quiz import quiz_script
from tests.support.runs import finish
from tests.support.scripted_lm import Ask, CutOff, ScriptedLM, reply_text
from tests.team.test_adaptive_runs import adaptive_config

CUT = "and then you must never"


def cut_off(field: str) -> ScriptedLM:
    """Return an LM whose replies with this field end at the token limit, in the middle of a rule."""

    def script(ask: Ask) -> dict[str, Any] | str:
        if field not in ask.fields:
            return quiz_script(ask)
        values = {"merged_rules": [CUT], "module_advice": {"self": CUT}, "discussion": "", "answer": CUT}
        return CutOff(reply_text(ask, {name: values[name] for name in ask.fields}))

    return ScriptedLM(script)


@pytest.mark.parametrize(
    ("role", "field"), [("prompt_model", "module_advice"), ("prompt_model", "merged_rules"), ("lm", "answer")]
)
async def test_a_reply_that_was_cut_off_gets_into_no_program(role: str, field: str, tmp_path: Path) -> None:
    strategies = [AppendADemo(), LearnFromFailures(), MergeRules(cap=10), Recombine()]
    changes: dict[str, Any] = {role: cut_off(field)}
    if role == "lm":
        changes["metric"] = lambda example, prediction: example.answer == "red"
    config = adaptive_config(tmp_path / "simba.db", strategies=strategies, **changes)
    result = await finish(config)
    async with await Reader.open(config.store) as reader:
        programs = await reader.programs(result.run_id)
    assert CUT not in "".join(str(program.configuration) for program in programs)
