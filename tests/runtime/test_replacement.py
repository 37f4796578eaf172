"""An attribute of a module is replaced only while anybody uses the replacement."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from simba_actors.runtime.replacement import Replacement
from tests.support.interruption import interrupted_before_line


@pytest.fixture
def module() -> Any:
    module: Any = ModuleType("module")
    module.value = "theirs"
    return module


@pytest.fixture
def replacement(module: Any) -> Replacement:
    return Replacement(module, "value", lambda value: f"ours for {value}")


def test_the_original_is_back_when_the_last_use_has_ended(module: Any, replacement: Replacement) -> None:
    first, second = replacement.begin(), replacement.begin()
    first()
    assert module.value == "ours for theirs"
    second()
    assert module.value == "theirs"


def test_it_is_replaced_again_by_a_later_use(module: Any, replacement: Replacement) -> None:
    replacement.begin()()
    end = replacement.begin()
    assert module.value == "ours for theirs"
    end()
    assert module.value == "theirs"


@pytest.mark.parametrize("line", range(1, 5))
def test_a_use_holds_although_the_only_other_one_is_freed_while_it_begins(
    line: int, module: Any, replacement: Replacement
) -> None:
    with interrupted_before_line(line, Replacement.begin, replacement.begin()):
        end = replacement.begin()
    assert module.value == "ours for theirs"
    end()
    assert module.value == "theirs"


def test_what_somebody_else_has_set_stays(module: Any, replacement: Replacement) -> None:
    end = replacement.begin()
    module.value = "another"
    end()
    assert module.value == "another"


def test_a_use_ends_although_somebody_has_removed_the_attribute(module: Any, replacement: Replacement) -> None:
    end = replacement.begin()
    del module.value
    end()
    assert not hasattr(module, "value")


def test_an_attribute_may_be_left_as_it_is(module: Any) -> None:
    end = Replacement(module, "value", lambda value: value).begin()
    assert module.value == "theirs"
    end()
    assert module.value == "theirs"
