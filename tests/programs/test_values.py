"""Any value becomes JSON, the same in every process, and custom types are restored."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import dspy
import orjson
import pydantic
import pytest

from simba_actors.programs import to_json_value
from simba_actors.programs.configuration import json_problem
from simba_actors.programs.values import DEEPEST, json_fields, revive, revive_savable
from tests.support.quiz import exact
from tests.support.waiting import PATIENCE


class Handle:
    def __init__(self) -> None:
        self.password = "hunter2"  # noqa: S105


@pytest.mark.parametrize(
    ("value", "text"),
    [(Handle(), "<tests.programs.test_values.Handle object>"), (exact, "<function exact>")],
    ids=["object", "function"],
)
def test_a_text_tells_no_address_and_no_attributes(value: Any, text: str) -> None:
    assert to_json_value([value]) == [text]


class Mute:
    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class Closed(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        raise OSError("closed")

    def __len__(self) -> int:
        raise OSError("closed")

    def __repr__(self) -> str:
        raise OSError("closed")


class Serialized(pydantic.BaseModel):
    value: int = 1

    @pydantic.model_serializer()
    def serialize(self) -> Any:
        raise ZeroDivisionError


@dataclasses.dataclass
class Unset:
    value: int = dataclasses.field(init=False)


def nested(depth: int, wrap: Any = lambda value: [value]) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        nested(300),
        nested(5_000),
        nested(300, lambda value: {"a": value}),
        Mute(),
        {Mute(): Mute()},
        {Mute()},
        Closed(),
        {"a": [Closed()]},
        Serialized(),
        Unset(),
        dspy.Prediction(answer=Mute()),
        2**63,
        -(2**70),
        10**6000,
        "half \ud83d",
        {"half \ud83d": "\ud83d"},
        b"\xff\xfe",
        float("nan"),
        [float("inf")],
        {1, "a", None, (2, 3)},
        {"a": 1}.keys(),
        (item for item in "abc"),
        type,
        ...,
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_value_is_refused(value: Any) -> None:
    converted = to_json_value(value)
    assert json_problem(converted) is None
    assert orjson.loads(orjson.dumps(converted)) == converted
    assert isinstance(json_fields(value), dict)


def test_what_is_nested_too_deep_becomes_text() -> None:
    converted: Any = to_json_value(nested(DEEPEST + 5))
    for _ in range(DEEPEST):
        (converted,) = converted
    assert converted == "[[[[['x']]]]]"


def test_a_value_within_itself_is_reported_as_such() -> None:
    value: list[Any] = []
    value.append(value)
    assert to_json_value(value) == ["<list within itself>"]


def test_sets_are_the_same_in_every_process() -> None:
    code = (
        "import pydantic, dataclasses\n"
        "from simba_actors.programs import to_json_value\n"
        "words = {'red', 'green', 'blue', 'amber', 'black'}\n"
        "class Model(pydantic.BaseModel):\n    words: set[str]\n"
        "Data = dataclasses.make_dataclass('Data', ['words'])\n"
        "print(to_json_value([words, frozenset(words), Model(words=words), Data(words), dict.fromkeys(words).keys()]))"
    )
    made = {
        subprocess.check_output(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, timeout=PATIENCE
        )
        for seed in ("1", "2")
    }
    assert len(made) == 1


MEDIA = [
    (dspy.Image("data:image/png;base64,iVBORw0KGgo="), dspy.Image),
    (dspy.Image("https://example.org/x.png"), dspy.Image | None),
    (dspy.Audio(data="AAAA", audio_format="wav"), dspy.Audio),
    (dspy.File(file_data="data:text/plain;base64,AAAA", filename="x.txt"), dspy.File),
    (dspy.History(messages=[{"question": "a", "answer": "b"}]), dspy.History),
    ([dspy.Image("https://example.org/x.png")], list[dspy.Image]),
    ({"a": [dspy.Image("https://example.org/x.png")]}, dict[str, list[dspy.Image]]),
]


@pytest.mark.parametrize(("value", "annotation"), MEDIA)
def test_custom_types_come_back_as_what_they_were(value: Any, annotation: Any) -> None:
    assert revive(to_json_value(value), annotation) == value
    assert revive_savable(to_json_value(value), annotation) == value


class Event(dspy.Type):
    name: str

    def format(self) -> list[dict[str, Any]]:
        return [{"type": "text", "text": f"event {self.name}"}]


def test_a_custom_type_of_the_users_stays_what_dspy_writes_for_it() -> None:
    stored = to_json_value(Event(name="x"))
    assert revive(stored, Event) == stored == Event(name="x").model_dump()
