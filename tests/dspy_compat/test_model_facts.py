"""What DSPy knows of a model is looked up once, and is the same."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import dspy
import pytest
from dspy.clients import capabilities, costs
from dspy.clients.model_metadata import model_info
from dspy.lm15 import Message, Response, TextPart, Usage

from simba_actors import Optimizer
from simba_actors.dspy_compat import model_facts
from simba_actors.dspy_compat.model_facts import FACTS_KEPT, remember_prices, with_known_capabilities
from simba_actors.runtime.replacement import Replacement
from tests.support.interruption import interrupted_before_line
from tests.support.openai_server import OpenAIServer
from tests.support.quiz import legible_script
from tests.support.runs import small_config
from tests.support.waiting import PATIENCE, until

PLANNING: Any = capabilities


@pytest.fixture
def server() -> Generator[OpenAIServer]:
    with OpenAIServer(legible_script) as server:
        yield server


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> Generator[Counter[str]]:
    """Count the calls of a function for a while."""
    calls: Counter[str] = Counter()
    function = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        calls[name] += 1
        return function(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, call)
        yield calls


async def ask(adapter: Any, lm: Any, **config: Any) -> None:
    with dspy.context(adapter=adapter, lm=lm):
        await dspy.Predict("question -> answer", **config).acall(question="?")


async def test_what_an_lm_can_do_is_looked_up_once(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter, lm = with_known_capabilities(dspy.ChatAdapter()), server.lm()
    with counted(monkeypatch, capabilities, "_capabilities") as calls:
        for _ in range(3):
            await ask(adapter, lm)
            await ask(adapter, lm.copy(rollout_id=1, temperature=1.0))
    assert calls["_capabilities"] == 1


@pytest.mark.parametrize("change", [{"model": "openai/gpt-4o-mini"}, {"timeout": 3.0}, {"engine": "lm15"}], ids=str)
async def test_what_an_lm_can_do_is_looked_up_again_for_an_lm_with_other_settings(
    change: dict[str, Any], server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, lm = with_known_capabilities(dspy.ChatAdapter()), server.lm()
    with counted(monkeypatch, capabilities, "_capabilities") as calls:
        await ask(adapter, lm)
        await ask(adapter, lm.copy(**change))
    assert calls["_capabilities"] == 2


async def test_what_an_lm_can_do_is_looked_up_again_for_a_predictor_with_other_settings(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, lm = with_known_capabilities(dspy.ChatAdapter()), server.lm()
    with counted(monkeypatch, capabilities, "_capabilities") as calls:
        await ask(adapter, lm)
        await ask(adapter, lm, timeout=3.0)
    assert calls["_capabilities"] == 2


@pytest.mark.parametrize("variable", ["OPENAI_API_BASE", "OPENAI_BASE_URL"])
async def test_what_an_lm_can_do_is_looked_up_again_once_the_environment_names_an_address(
    variable: str, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, lm = with_known_capabilities(dspy.ChatAdapter()), server.lm(engine="lm15")
    with counted(monkeypatch, capabilities, "_capabilities") as calls:
        await ask(adapter, lm)
        monkeypatch.setenv(variable, server.address)
        await ask(adapter, lm)
    assert calls["_capabilities"] == 2


@pytest.mark.parametrize("make", [dspy.ChatAdapter, dspy.JSONAdapter, dspy.XMLAdapter])
async def test_adapters_see_what_the_lm_can_do(make: Any, server: OpenAIServer) -> None:
    seen: list[Any] = []

    class Watched(dspy.LM):
        def update_history(self, entry: Any) -> None:
            seen.append(PLANNING.capabilities(self))

    lm = Watched("openai/gpt-4o-mini", api_base=server.address, api_key="none", cache=False)
    adapter = with_known_capabilities(make())
    for _ in range(2):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(make, "parse", lambda self, signature, completion: {"answer": "yes"})
            await ask(adapter, lm)
    assert seen == [PLANNING.capabilities(lm)] * 2


def test_any_other_adapter_is_returned_as_it_is() -> None:
    adapter = dspy.TwoStepAdapter(dspy.LM("openai/quiz"))
    assert with_known_capabilities(adapter) is adapter


@pytest.fixture
def no_other_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the uses of other tests apart: their executors are freed at any time."""
    monkeypatch.setattr(model_facts, "_prices", Replacement(costs, "model_info", model_facts._remembered))
    monkeypatch.setattr(costs, "model_info", model_info)


def priced(model: str) -> Any:
    """Return DSPy's price of a reply of an OpenAI model, and what it says about it."""
    reply = Response(
        id=None,
        model=model,
        message=Message.assistant([TextPart("yes")]),
        finish_reason="stop",
        usage=Usage(input_tokens=1000, output_tokens=100, total_tokens=1100),
    )
    return cast("Any", costs).estimate_cost(reply, provider="openai", requested_model=model)


@pytest.mark.parametrize("model", ["gpt-4o-mini", "gpt-5-mini", "quiz"])
def test_prices_are_dspys_own(model: str) -> None:
    expected = priced(model)
    undo = remember_prices()
    found = [priced(model), priced(model)]
    undo()
    assert found == [expected, expected]


@pytest.mark.usefixtures("no_other_uses")
def test_a_price_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with counted(monkeypatch, costs, "model_info") as calls:
        undo = remember_prices()
        for _ in range(3):
            priced("gpt-5-mini")
            priced("gpt-4o-mini")
        undo()
    assert calls["model_info"] == 2


@pytest.mark.usefixtures("no_other_uses")
@pytest.mark.parametrize("line", range(1, 6))
def test_a_price_is_found_although_another_thread_looks_up_many_models_meanwhile(line: int) -> None:
    undo = remember_prices()
    look_up = cast("Any", costs).model_info
    expected = look_up("openai", "gpt-5-mini")
    others = [f"gpt-{number}" for number in range(FACTS_KEPT + 1)]
    with interrupted_before_line(line, look_up, lambda: [look_up("openai", model) for model in others]):
        assert look_up("openai", "gpt-5-mini") == expected
    undo()


@pytest.mark.usefixtures("no_other_uses")
def test_dspys_function_is_back_when_the_last_use_is_undone() -> None:
    undo = [remember_prices(), remember_prices()]
    undo.pop()()
    assert cast("Any", costs).model_info is not model_info
    undo.pop()()
    assert cast("Any", costs).model_info is model_info


@pytest.mark.usefixtures("no_other_uses")
def test_a_function_that_somebody_else_has_put_around_it_stays() -> None:
    undo = remember_prices()
    ours = cast("Any", costs).model_info

    def theirs(*args: Any, **kwargs: Any) -> Any:
        return ours(*args, **kwargs)

    cast("Any", costs).model_info = theirs
    undo()
    undo = remember_prices()
    undo()
    assert cast("Any", costs).model_info is theirs
    assert priced("gpt-4o-mini")[0] > 0


@pytest.mark.usefixtures("no_other_uses")
async def test_a_run_puts_dspys_function_back(tmp_path: Path) -> None:
    async with Optimizer.start(small_config(tmp_path / "simba.db")) as optimizer:
        assert cast("Any", costs).model_info is not model_info
        await optimizer.result(PATIENCE)

    def is_back() -> bool:
        gc.collect()  # A thread that ends may still hold something of the run.
        return cast("Any", costs).model_info is model_info

    await until(is_back)
