"""The class that predictors make an adapter of is replaced only while somebody uses the default adapter."""

from __future__ import annotations

from typing import Any, cast

import dspy
import pytest
from dspy.predict import predict

from simba_actors.dspy_compat import default_adapter
from simba_actors.dspy_compat.default_adapter import honour_default_adapters
from simba_actors.runtime.replacement import Replacement


@pytest.fixture(autouse=True)
def no_other_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the uses of other tests apart: their executors are freed at any time."""
    monkeypatch.setattr(default_adapter, "_adapters", Replacement(predict, "ChatAdapter", default_adapter._in_place_of))
    monkeypatch.setattr(predict, "ChatAdapter", dspy.ChatAdapter)


def adapter_class() -> Any:
    return cast("Any", predict).ChatAdapter


def test_dspys_class_is_back_when_the_last_use_is_undone() -> None:
    undo = [honour_default_adapters(), honour_default_adapters()]
    undo.pop()()
    assert adapter_class() is not dspy.ChatAdapter
    undo.pop()()
    assert adapter_class() is dspy.ChatAdapter


def test_a_class_that_somebody_else_has_set_stays() -> None:
    undo = honour_default_adapters()
    cast("Any", predict).ChatAdapter = dspy.JSONAdapter
    undo()
    assert adapter_class() is dspy.JSONAdapter


def test_a_class_that_somebody_else_had_set_before_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "ChatAdapter", dspy.JSONAdapter)
    undo = honour_default_adapters()
    assert adapter_class() is dspy.JSONAdapter
    undo()
