"""Adapters that remember write what DSPy's own write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast

import dspy
import pydantic
import pytest

from simba_actors.dspy_compat.prompt_cache import MESSAGES_KEPT, PROGRAMS_KEPT, with_prompt_cache
from tests.support.interruption import interrupted_before_line


class Person(pydantic.BaseModel):
    name: str


class Sort(dspy.Signature):
    """Sort people into boxes."""

    person: str | Person = dspy.InputField()
    weight: float = dspy.InputField(desc="in kilograms")
    box: Literal["big", "small"] = dspy.OutputField()
    reason: str = dspy.OutputField()


DEMOS: list[dict[str, Any]] = [
    {"person": "Ada", "weight": 1.0, "box": "big", "reason": "why not", "augmented": True},
    {"person": "Bob", "weight": 1, "box": "small", "reason": "so"},
    {"person": Person(name="Cy"), "weight": 2.5, "box": "small", "reason": "so"},
    {"person": "Di", "box": "small"},
]
INPUTS: list[dict[str, Any]] = [
    {"person": "Ed", "weight": 1},
    {"person": "Ed", "weight": 1.0},
    {"person": "Ed", "weight": True},
    {"person": "Ed", "weight": 0.0},
    {"person": "Ed", "weight": -0.0},
    {"person": Person(name="Flo"), "weight": 3.0},
]

adapters = pytest.mark.parametrize("make", [dspy.ChatAdapter, dspy.JSONAdapter, dspy.XMLAdapter])


@adapters
def test_prompts_are_those_of_the_adapter_itself(make: Callable[[], Any]) -> None:
    adapter, copied = make(), with_prompt_cache(make())
    for _ in range(2):
        for inputs in INPUTS:
            assert copied.format(Sort, DEMOS, inputs) == adapter.format(Sort, DEMOS, inputs)


@adapters
def test_other_instructions_are_written_anew(make: Callable[[], Any]) -> None:
    adapter, copied = make(), with_prompt_cache(make())
    copied.format(Sort, DEMOS, INPUTS[0])
    other = Sort.with_instructions("Sort them otherwise.")
    assert copied.format(other, DEMOS, INPUTS[0]) == adapter.format(other, DEMOS, INPUTS[0])


def test_instructions_that_are_set_in_place_are_written_anew() -> None:
    signature: Any = Sort.with_instructions("Before.")
    copied = with_prompt_cache(dspy.ChatAdapter())
    copied.format_system_message(signature)
    signature.instructions = "After."
    assert "After." in copied.format_system_message(signature)


@adapters
def test_fields_of_another_type_are_written_anew(make: Callable[[], Any]) -> None:
    adapter, copied = make(), with_prompt_cache(make())
    copied.format(Sort, DEMOS, INPUTS[0])
    other = Sort.with_updated_fields("box", type_=cast("Any", Literal["left", "right"]))
    assert copied.format(other, DEMOS, INPUTS[0]) == adapter.format(other, DEMOS, INPUTS[0])


def test_a_value_that_is_changed_in_place_is_written_anew() -> None:
    person = Person(name="Gus")
    copied = with_prompt_cache(dspy.ChatAdapter())
    copied.format(Sort, [], {"person": person, "weight": 1.0})
    person.name = "Hal"
    assert "Hal" in copied.format(Sort, [], {"person": person, "weight": 1.0})[-1]["content"]


def test_what_programs_have_in_common_is_asked_of_the_adapter_once() -> None:
    adapter: Any = dspy.ChatAdapter()
    write, written = adapter.format_user_message_content, list[Any]()

    def noted(signature: Any, values: Any, *args: Any, **options: Any) -> str:
        written.append(values)
        return write(signature, values, *args, **options)

    adapter.format_user_message_content = noted
    copied = with_prompt_cache(adapter)
    copied.format(Sort, DEMOS[:2], INPUTS[0])
    copied.format(Sort.with_instructions("Otherwise."), DEMOS[:2], INPUTS[0])
    assert written == [*DEMOS[:2], INPUTS[0]]


@pytest.mark.parametrize("line", range(1, 6))
def test_a_message_is_written_although_another_thread_fills_the_cache_meanwhile(line: int) -> None:
    write: Any = with_prompt_cache(dspy.ChatAdapter()).format_user_message_content
    expected = write(Sort, INPUTS[0])
    others = [{"person": str(number), "weight": 1} for number in range(MESSAGES_KEPT + 1)]
    with interrupted_before_line(line, write, lambda: [write(Sort, inputs) for inputs in others]):
        assert write(Sort, INPUTS[0]) == expected


@pytest.mark.parametrize("line", range(1, 6))
def test_demos_are_written_although_another_thread_fills_the_cache_meanwhile(line: int) -> None:
    write: Any = with_prompt_cache(dspy.ChatAdapter()).format_demos
    expected = write(Sort, DEMOS[:2])
    others = [[{**DEMOS[0], "person": str(number)}] for number in range(PROGRAMS_KEPT + 1)]
    with interrupted_before_line(line, write, lambda: [write(Sort, demos) for demos in others]):
        assert write(Sort, DEMOS[:2]) == expected


def test_messages_may_be_changed_by_whoever_sends_them() -> None:
    copied = with_prompt_cache(dspy.ChatAdapter())
    first = copied.format(Sort, DEMOS, INPUTS[0])
    expected = [dict(message) for message in first]
    for message in first:
        message["content"] = "changed"
    assert copied.format(Sort, DEMOS, INPUTS[0]) == expected


def test_an_adapter_of_ones_own_is_left_alone() -> None:
    class Own(dspy.ChatAdapter):
        pass

    adapter = Own()
    assert with_prompt_cache(adapter) is adapter


def test_the_adapter_itself_is_not_changed() -> None:
    adapter = dspy.ChatAdapter()
    before = dict(vars(adapter))
    with_prompt_cache(adapter)
    assert vars(adapter) == before
