"""Serving a program written in Python: the answers to each of the three calls."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
import pytest
from dspy.clients import capabilities
from dspy.utils.exceptions import LMAuthError

from simba_actors import Float, Governor, Retry
from simba_actors.bridge.messages import LARGEST_MESSAGE
from simba_actors.bridge.service import StudentService
from simba_actors.errors import NoLMError
from simba_actors.transport.refusals import Refusal
from tests.support.openai_server import OpenAIServer
from tests.support.quiz import quiz_script
from tests.support.scripted_lm import Ask, ScriptedLM
from tests.support.students import HintAndAnswer, quiz_service
from tests.support.waiting import PATIENCE


class Gated(dspy.Module):
    """Answers once the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    async def aforward(self, question: str) -> dspy.Prediction:
        runs.append(question)
        started.set()
        await gate.wait()
        return dspy.Prediction(answer=question)


runs: list[str] = []
started, gate = asyncio.Event(), asyncio.Event()


@pytest.fixture(autouse=True)
def _closed_gate() -> None:
    global started, gate
    runs.clear()
    started, gate = asyncio.Event(), asyncio.Event()


def request_of(service: StudentService, key: str = "a", **changes: Any) -> dict[str, Any]:
    predictors = {each["name"]: {"instructions": each["instructions"]} for each in service.describe({})["predictors"]}
    return {"major": 1, "key": key, "predictors": predictors, "inputs": {"question": "What?"}, **changes}


def failing(error: Exception) -> StudentService:
    def script(ask: Ask) -> str:
        raise error

    governor = Governor(retry=Retry(attempts=1))
    return quiz_service(dspy.Predict("question -> answer"), lm=ScriptedLM(script), governor=governor)


async def refusal_of(service: StudentService, **changes: Any) -> Refusal:
    with pytest.raises(Refusal) as raised:
        await service.run(request_of(service, **changes))
    return raised.value


async def reach_the_program() -> None:
    await asyncio.wait_for(started.wait(), PATIENCE)


async def test_a_run_of_the_same_key_waits_for_the_one_under_way() -> None:
    service = quiz_service(Gated())
    both = [asyncio.ensure_future(service.run(request_of(service))) for _ in range(2)]
    await reach_the_program()
    gate.set()
    first, second = await asyncio.gather(*both)
    assert first == second
    assert len(runs) == 1


async def test_a_run_of_the_same_key_gets_the_reply_again() -> None:
    service = quiz_service(Gated())
    gate.set()
    assert await service.run(request_of(service)) == await service.run(request_of(service, timeoutSeconds=3))
    assert len(runs) == 1


async def test_a_caller_that_goes_away_finds_its_run_when_it_comes_back() -> None:
    service = quiz_service(Gated())
    caller = asyncio.ensure_future(service.run(request_of(service)))
    await reach_the_program()
    caller.cancel()
    gate.set()
    assert (await service.run(request_of(service)))["outcome"] == "OUTCOME_SUCCEEDED"
    assert len(runs) == 1


async def test_a_key_stands_for_one_request() -> None:
    service = quiz_service(Gated())
    gate.set()
    await service.run(request_of(service))
    assert (await refusal_of(service, inputs={"question": "Why?"})).code == "already_exists"


async def test_cancel_ends_a_run() -> None:
    service = quiz_service(Gated())
    caller = asyncio.ensure_future(service.run(request_of(service)))
    await reach_the_program()
    assert await service.cancel({"key": "a"}) == {"found": True}
    with pytest.raises(Refusal, match="canceled"):
        await caller
    assert await service.cancel({"key": "a"}) == {"found": False}


async def test_a_run_that_was_cancelled_can_be_made_again() -> None:
    service = quiz_service(Gated())
    caller = asyncio.ensure_future(service.run(request_of(service)))
    await reach_the_program()
    await service.cancel({"key": "a"})
    await asyncio.wait([caller], timeout=PATIENCE)
    assert isinstance(caller.exception(), Refusal)
    gate.set()
    assert (await service.run(request_of(service)))["outcome"] == "OUTCOME_SUCCEEDED"


async def test_a_run_ends_at_its_deadline() -> None:
    service = quiz_service(Gated())
    assert (await refusal_of(service, timeoutSeconds=0.01)).code == "deadline_exceeded"


async def test_a_run_too_many_is_refused_for_now() -> None:
    service = quiz_service(Gated(), max_concurrency=1)
    caller = asyncio.ensure_future(service.run(request_of(service)))
    await reach_the_program()
    refusal = await refusal_of(service, key="b")
    assert (refusal.code, refusal.retry_after) == ("resource_exhausted", 0.5)
    gate.set()
    await caller


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"predictors": {}}, "has no state for the predictor 'hint'"),
        ({"key": "not a key"}, "key: "),
        ({"key": ""}, "key: "),
        ({"inputs": ["question"]}, "inputs: "),
        ({"predictors": 3}, "predictors: "),
    ],
)
async def test_a_request_that_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    refusal = await refusal_of(quiz_service(), **changes)
    assert refusal.code == "invalid_argument"
    assert message in refusal.message


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"model": {"name": "huge"}}, "there is no model 'huge'"),
        ({"settings": {"top_p": 1}}, "hint has the settings ['temperature'], not ['top_p']"),
        ({"settings": {"temperature": 9}}, "must be a number from 0 to 1"),
        ({"demos": [{"question": "What?"}], "settings": {"temperature": "hot"}}, "must be a number from 0 to 1"),
    ],
)
async def test_a_state_that_the_program_does_not_offer_is_refused(state: dict[str, Any], message: str) -> None:
    service = quiz_service(settings={"hint.temperature": Float(0.0, 1.0)})
    predictors = request_of(service)["predictors"]
    refusal = await refusal_of(service, predictors={**predictors, "hint": {**predictors["hint"], **state}})
    assert message in refusal.message


async def test_a_predictor_that_there_is_not_is_refused() -> None:
    service = quiz_service()
    predictors = {**request_of(service)["predictors"], "judge": {}}
    assert "there are no predictors ['judge']" in (await refusal_of(service, predictors=predictors)).message


def test_a_description_in_another_major_version_is_refused() -> None:
    with pytest.raises(Refusal, match="failed_precondition: this student speaks version 1"):
        quiz_service().describe({"majors": [2, 3]})


async def test_a_run_in_another_major_version_is_refused() -> None:
    assert (await refusal_of(quiz_service(), major=2)).code == "failed_precondition"


async def test_unknown_fields_are_ignored() -> None:
    service = quiz_service()
    reply = await service.run({**request_of(service), "priority": "high"})
    assert reply["outcome"] == "OUTCOME_SUCCEEDED"


async def test_a_reply_says_what_was_used() -> None:
    service = quiz_service()
    usage = (await service.run(request_of(service)))["usage"]
    assert usage["calls"] == 2
    assert usage["promptTokens"] > usage["completionTokens"] > 0


async def test_an_error_of_the_program_is_a_program_failure_with_its_trace() -> None:
    class Stumbles(HintAndAnswer):
        async def aforward(self, question: str) -> dspy.Prediction:
            await self.hint.acall(question=question)
            raise KeyError("colour")

    service = quiz_service(Stumbles())
    reply = await service.run(request_of(service))
    assert reply["outcome"] == "OUTCOME_PROGRAM_FAILURE"
    assert (reply["failure"]["type"], reply["failure"]["message"]) == ("KeyError", "'colour'")
    assert [step["predictor"] for step in reply["trace"]] == ["hint"]


async def test_a_reply_has_its_trace_where_dspy_keeps_none() -> None:
    with dspy.context(max_trace_size=0):
        service = quiz_service()
    reply = await service.run(request_of(service))
    assert [step["predictor"] for step in reply["trace"]] == ["hint", "answer.predict"]


async def test_an_lm_that_can_not_be_reached_is_an_infrastructure_failure() -> None:
    service = failing(ConnectionError("no route"))
    reply = await service.run(request_of(service))
    assert reply["outcome"] == "OUTCOME_INFRASTRUCTURE_FAILURE"
    assert not reply["failure"]["permanent"]


async def test_a_key_that_is_refused_is_a_permanent_failure() -> None:
    service = failing(LMAuthError("wrong key", status=401))
    reply = await service.run(request_of(service))
    assert (reply["outcome"], reply["failure"]["permanent"]) == ("OUTCOME_INFRASTRUCTURE_FAILURE", True)


async def test_a_run_that_the_infrastructure_failed_is_made_again_under_its_key() -> None:
    fails = True

    def script(ask: Ask) -> Any:
        if fails:
            raise ConnectionError("no route")
        return quiz_script(ask)

    governor = Governor(retry=Retry(attempts=1))
    service = quiz_service(dspy.Predict("question -> answer"), lm=ScriptedLM(script), governor=governor)
    await service.run(request_of(service))
    fails = False
    assert (await service.run(request_of(service)))["outcome"] == "OUTCOME_SUCCEEDED"


async def test_a_prediction_that_is_too_large_is_a_program_failure() -> None:
    class Verbose(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.answer = dspy.Predict("question -> answer")

        async def aforward(self, question: str) -> dspy.Prediction:
            return dspy.Prediction(answer="x" * LARGEST_MESSAGE)

    service = quiz_service(Verbose())
    reply = await service.run(request_of(service))
    assert (reply["outcome"], reply["failure"]["type"]) == ("OUTCOME_PROGRAM_FAILURE", "ReplyTooLarge")


async def test_inputs_have_the_types_that_the_predictors_give_them() -> None:
    class Sums(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.answer = dspy.Predict("numbers: set[int] -> answer")

        async def aforward(self, numbers: set[int]) -> dspy.Prediction:
            return dspy.Prediction(answer=type(numbers).__name__)

    service = quiz_service(Sums())
    reply = await service.run(request_of(service, inputs={"numbers": [1, 2]}))
    assert reply["prediction"] == {"answer": "set"}


async def test_close_cancels_what_is_under_way() -> None:
    service = quiz_service(Gated())
    caller = asyncio.ensure_future(service.run(request_of(service)))
    await reach_the_program()
    await service.close()
    with pytest.raises(Refusal, match="canceled"):
        await caller


def test_a_program_without_an_lm_is_not_served() -> None:
    with dspy.context(lm=None), pytest.raises(NoLMError, match="predictor 'hint' has no LM"):
        StudentService(HintAndAnswer())


def test_the_summary_of_dspys_own_modules_is_empty() -> None:
    assert quiz_service(dspy.ChainOfThought("question -> answer")).describe({})["summary"] == ""


async def test_the_program_served_is_not_changed() -> None:
    program = HintAndAnswer()
    service = quiz_service(program)
    state = program.dump_state()
    predictors = {name: {"instructions": "Other."} for name in request_of(service)["predictors"]}
    await service.run(request_of(service, predictors=predictors))
    assert program.dump_state() == state


async def test_what_an_lm_can_do_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, ask = [], capabilities._capabilities

    def counting(*args: Any, **options: Any) -> Any:
        asked.append(args)
        return ask(*args, **options)

    monkeypatch.setattr(capabilities, "_capabilities", counting)
    with OpenAIServer(quiz_script) as server:
        service = quiz_service(dspy.Predict("question -> answer"), lm=server.lm())
        for key in ("a", "b", "c"):
            assert (await service.run(request_of(service, key)))["outcome"] == "OUTCOME_SUCCEEDED"
    assert len(asked) == 1
