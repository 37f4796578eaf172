"""Prompts for advice that fit the prompt model's context window."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import dspy
import pytest

from simba_actors.errors import AdviceTooLongError, PromptTooLongError
from simba_actors.store import Reader
from simba_actors.strategies import AppendARule, LearnFromFailures
from simba_actors.strategies.rule_prompt import LONGEST_ADVICE, ask_for_advice, shortened
from tests.support.quiz import quiz_script
from tests.support.runs import finish
from tests.support.scripted_lm import Ask, ScriptedLM
from tests.team.test_adaptive_runs import adaptive_config

ADVICE = {"self": "Look twice."}


class Advise(dspy.Signature):
    trajectory: str = dspy.InputField()
    module_advice: dict[str, str] = dspy.OutputField()


class Window:
    """A prompt model that refuses prompts of more than `size` characters, and remembers the size of each."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.asked: list[dict[str, str]] = []

    async def ask(self, signature: type[dspy.Signature], **inputs: Any) -> dspy.Prediction:
        self.asked.append(inputs)
        if sum(map(len, inputs.values())) > self.size:
            raise PromptTooLongError("too long")
        return dspy.Prediction(module_advice=ADVICE)


async def ask(window: Window, *prompts: dict[str, str]) -> Any:
    return await ask_for_advice(window, Advise, prompts)


async def test_a_prompt_that_fits_is_asked_as_it_is() -> None:
    window, prompt = Window(10_000), {"trajectory": "x" * 9_000}
    assert await ask(window, prompt) == ADVICE
    assert window.asked == [prompt]


async def test_a_smaller_prompt_is_preferred_to_a_shortened_one() -> None:
    window, smaller = Window(10_000), {"trajectory": "x" * 9_000}
    await ask(window, {"trajectory": "x" * 90_000}, smaller)
    assert window.asked[-1] == smaller


async def test_a_prompt_is_shortened_until_it_fits() -> None:
    window = Window(10_000)
    assert await ask(window, {"code": "short", "trajectory": "x" * 136_000}) == ADVICE
    assert window.asked[-1]["code"] == "short"


async def test_a_window_that_holds_no_prompt_gives_no_advice() -> None:
    with pytest.raises(PromptTooLongError):
        await ask(Window(0), {"trajectory": "x" * 136_000})


def test_the_middle_of_the_longest_text_is_left_out() -> None:
    made = shortened({"code": "short", "trajectory": "a" * 500 + "b" * 500}, 105)
    assert made == {"code": "short", "trajectory": f"{'a' * 50}\n[… 900 characters left out …]\n{'b' * 50}"}


def test_texts_that_are_about_as_long_are_shortened_alike() -> None:
    made = shortened({"worse": "w" * 1_000, "better": "b" * 900, "code": "c" * 10}, 210)
    assert {name: text.count(text[0]) for name, text in made.items()} == {"worse": 100, "better": 100, "code": 10}


class Writer:
    """A prompt model that writes `size` characters of advice."""

    def __init__(self, size: int) -> None:
        self.size = size

    async def ask(self, signature: type[dspy.Signature], **inputs: Any) -> dspy.Prediction:
        return dspy.Prediction(module_advice={"self": "x" * self.size})


async def test_advice_at_the_limit_is_taken_whole() -> None:
    advice = await ask_for_advice(Writer(LONGEST_ADVICE), Advise, [{"trajectory": "x"}])
    assert len(advice["self"]) == LONGEST_ADVICE


async def test_advice_beyond_the_limit_is_refused() -> None:
    with pytest.raises(
        AdviceTooLongError, match=r"2,000,000 characters of advice for 'self', more than the maximum of 20,000"
    ):
        await ask_for_advice(Writer(2_000_000), Advise, [{"trajectory": "x"}])


@pytest.mark.parametrize("strategy", [AppendARule(), LearnFromFailures()], ids=lambda strategy: strategy.name)
async def test_two_megabytes_of_advice_become_no_instruction(
    strategy: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def script(ask: Ask) -> dict[str, Any] | str:
        if "module_advice" in ask.fields:
            return {"discussion": "", "module_advice": {"self": "Look. " * 333_334}}
        return quiz_script(ask)

    config = adaptive_config(tmp_path / "simba.db", strategies=[strategy], prompt_model=ScriptedLM(script))
    with caplog.at_level(logging.WARNING, "simba_actors"):
        result = await finish(config)
    async with await Reader.open(config.store) as reader:
        programs = await reader.programs(result.run_id)
    assert max(len(str(program.configuration)) for program in programs) < LONGEST_ADVICE
    assert f"strategy {strategy.name} failed: AdviceTooLongError: the prompt model wrote 2,000,004" in caplog.text
