"""Only the chosen predictors are optimized."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy
import pytest

from simba_actors import LiveProgram, Optimizer
from simba_actors.store import Reader
from tests.support.quiz import quiz_script
from tests.support.runs import small_config
from tests.support.scripted_lm import ScriptedLM
from tests.support.waiting import PATIENCE


class TwoSteps(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hint = dspy.Predict("question -> hint")
        self.answer = dspy.Predict("question, hint -> answer")

    def forward(self, question: str) -> Any:
        return self.answer(question=question, hint=self.hint(question=question).hint)


@pytest.mark.parametrize("policy", ["dspy", "adaptive"])
async def test_the_others_stay_as_they_are(policy: Any, tmp_path: Path) -> None:
    student: Any = TwoSteps()
    lm = ScriptedLM(quiz_script)
    config = small_config(
        tmp_path / "simba.db", student=student, optimize=["answer"], policy=policy, max_steps=3, lm=lm, prompt_model=lm
    )
    async with await Optimizer.start(config) as optimizer:
        result = await optimizer.result(PATIENCE)
        await optimizer.publish()
    program: Any = result.program
    assert program.hint.demos == []
    assert program.hint.signature.instructions == student.hint.signature.instructions
    async with await Reader.open(config.store) as reader:
        stored: list[Any] = [program.configuration for program in await reader.programs(result.run_id)]
    live = LiveProgram(student, store=config.store)
    live.sync_variables()
    assert live.version == 1
    assert len(stored) > 1
    assert {name.partition(".")[0] for configuration in stored for name in configuration} == {"answer"}
