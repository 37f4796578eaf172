"""A program in another process is a student like any other."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import cloudpickle
import dspy
import pytest

from simba_actors import Choice, ConfigurationSpace, Float, Integer, LiveProgram, RemoteStudent
from simba_actors.bridge.http_app import student_app
from simba_actors.errors import ConfigError, NoLMError, StudentError, StudentUnreachableError
from simba_actors.optimizer import Optimizer
from simba_actors.strategies.rule_prompt import program_code
from tests.support.hosts import free_port
from tests.support.live import publish, said
from tests.support.quiz import questions, quiz_script
from tests.support.runs import small_config
from tests.support.scripted_lm import Ask, ScriptedLM
from tests.support.students import DESCRIPTION, HintAndAnswer, OddStudent, quiz_service, served, succeeded
from tests.support.waiting import PATIENCE

QUESTION = questions(1)[0].question

TOKEN = "a-secret-token"  # noqa: S105 - of a test


@pytest.fixture(scope="module")
def address() -> Generator[str]:
    with served(quiz_service()) as address:
        yield address


@pytest.fixture(scope="module")
def student(address: str) -> RemoteStudent:
    return RemoteStudent(address)


def local() -> dspy.Module:
    program = HintAndAnswer()
    program.set_lm(ScriptedLM(quiz_script))
    return program


def described(**changes: Any) -> dict[str, Any]:
    return {**DESCRIPTION, **changes}


def test_it_has_the_predictors_of_the_program_under_their_names(student: RemoteStudent) -> None:
    assert [name for name, _ in student.named_predictors()] == [name for name, _ in HintAndAnswer().named_predictors()]


def test_its_configuration_has_the_digest_of_the_programs(student: RemoteStudent) -> None:
    spaces = [ConfigurationSpace.from_module(each) for each in (student, HintAndAnswer())]
    assert spaces[0].extract(student).digest == spaces[1].extract(HintAndAnswer()).digest


def test_calling_it_predicts_what_the_program_predicts(student: RemoteStudent) -> None:
    assert student(question=QUESTION).toDict() == asyncio.run(local().acall(question=QUESTION)).toDict()


async def test_awaiting_it_predicts_the_same(student: RemoteStudent) -> None:
    predicted = await student.acall(question=QUESTION)
    assert predicted.toDict() == (await local().acall(question=QUESTION)).toDict()


def test_the_predictors_calls_are_in_the_trace_of_dspy(student: RemoteStudent) -> None:
    with dspy.context(trace=[]):
        predicted = student(question=QUESTION)
        steps = list(dspy.settings.trace)
    assert [predictor for predictor, _, _ in steps] == student.predictors()
    assert steps[1][2].answer == predicted.answer


def test_the_trace_of_dspy_keeps_to_its_size(student: RemoteStudent) -> None:
    trace: list[Any] = []
    with dspy.context(trace=trace, max_trace_size=3):
        for number in range(2):
            student(question=str(number))
    assert len(trace) == 3


def test_instructions_and_demos_travel(address: str) -> None:
    asks: list[Ask] = []
    with served(quiz_service(lm=ScriptedLM(quiz_script, asks=asks))) as address:
        space = ConfigurationSpace.from_module(student := RemoteStudent(address))
        configuration = space.extract(student).with_instructions("hint", "Give a hint in one word.")
        configuration = configuration.with_demos("hint", [{"question": "What?", "hint": "That."}])
        space.apply(configuration, student)(question=QUESTION)
    assert "Give a hint in one word." in asks[0].system
    assert asks[0].messages[0][1].endswith("What?")


def test_a_program_that_it_became_can_be_loaded_into_the_original(student: RemoteStudent, tmp_path: Path) -> None:
    space = ConfigurationSpace.from_module(student)
    better = space.apply(space.extract(student).with_instructions("hint", "Be brief."), student)
    better.save(tmp_path / "better.json")
    (original := HintAndAnswer()).load(tmp_path / "better.json")
    assert ConfigurationSpace.from_module(original).extract(original).instructions("hint") == "Be brief."


def test_settings_that_the_program_lets_others_choose_are_in_its_space() -> None:
    settings = {
        "hint.temperature": Float(0.0, 1.5),
        "hint.max_tokens": Integer(100, 200),
        "answer.predict.lm": Choice(("large",)),
    }
    asks: list[Ask] = []
    models: dict[str, Any] = {"large": ScriptedLM(quiz_script, asks=asks)}
    with served(quiz_service(settings=settings, models=models)) as address:
        space = (student := RemoteStudent(address)).space
        configuration = space.extract(student).with_setting("answer.predict.lm", "large")
        space.apply(configuration.with_setting("hint.temperature", 0.5), student)(question=QUESTION)
    assert space.settings == settings
    assert len(asks) == 1


def test_a_choice_that_depends_on_another_setting_is_refused() -> None:
    settings = {"hint.n": Choice((1, 2), when={"hint.max_tokens": (100,)}), "hint.max_tokens": Integer(100, 200)}
    with (
        pytest.raises(ConfigError, match=r"'hint.n' depends on \['hint.max_tokens'\], .* leave `when` out"),
        served(quiz_service(settings=settings)),
    ):
        pass


def test_a_temperature_and_a_rollout_id_reach_the_programs_lm() -> None:
    asks: list[Ask] = []
    with served(quiz_service(lm=ScriptedLM(quiz_script, asks=asks))) as address:
        student = RemoteStudent(address)
        student.set_lm(student.model("").copy(temperature=0.7, rollout_id=5))
        student(question=QUESTION)
    assert {(ask.temperature, ask.rollout_id) for ask in asks} == {(0.7, 5)}


def test_an_error_of_the_program_has_its_name_and_text() -> None:
    class Fussy(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.answer = dspy.Predict("question -> answer")

        def forward(self, question: str) -> dspy.Prediction:
            raise LookupError(f"nothing on {question}")

    with served(quiz_service(Fussy())) as address, pytest.raises(Exception, match="nothing on balls") as raised:
        RemoteStudent(address)(question="balls")
    assert type(raised.value).__name__ == "LookupError"


def test_demos_that_the_program_has_in_its_code_are_there() -> None:
    program = HintAndAnswer()
    program.hint.demos = [dspy.Example(question="What?", hint="That.")]
    with served(quiz_service(program)) as address:
        student = RemoteStudent(address)
    assert ConfigurationSpace.from_module(student).extract(student).demos("hint") == (
        {"question": "What?", "hint": "That."},
    )


def test_types_of_fields_are_those_of_the_program() -> None:
    class Typed(dspy.Signature):
        """Classify."""

        text: str = dspy.InputField(desc="what was written")
        count: int = dspy.OutputField()
        weights: list[float] = dspy.OutputField()

    with served(quiz_service(dspy.Predict(Typed))) as address:
        signature: Any = RemoteStudent(address).predictors()[0].signature
    assert {name: field.annotation for name, field in signature.fields.items()} == {
        "text": str,
        "count": int,
        "weights": list[float],
    }
    assert signature.input_fields["text"].json_schema_extra["desc"] == "what was written"


def test_a_whole_number_is_of_the_type_that_its_schema_says() -> None:
    outputs = [{"name": "score", "schema": {"type": "number"}}, {"name": "count", "schema": {"type": "integer"}}]
    description = described(predictors=[{"name": "answer", "outputs": outputs}])
    prediction = {"score": 1, "count": 2.0}
    with OddStudent(
        lambda request: succeeded(request, prediction=prediction), describe=lambda request: description
    ) as odd:
        predicted = RemoteStudent(odd.address)(question="What?")
    assert [type(value) for value in predicted.toDict().values()] == [float, int]


def test_an_output_may_have_any_name() -> None:
    prediction = {"base": "acid", "self": 1, "items": []}
    with OddStudent(lambda request: succeeded(request, prediction=prediction)) as odd:
        assert RemoteStudent(odd.address)(question="What?").toDict() == prediction


def test_copies_share_its_connection(student: RemoteStudent) -> None:
    assert copy.deepcopy(student)(question=QUESTION).answer == student(question=QUESTION).answer


def test_it_can_be_pickled_and_leaves_its_token_behind(address: str) -> None:
    pickled = cloudpickle.dumps(RemoteStudent(address, token=TOKEN))
    assert TOKEN.encode() not in pickled
    assert cloudpickle.loads(pickled)(question=QUESTION).answer


def test_predictors_may_have_names_that_remote_students_use() -> None:
    names = ("model", "space", "description", "self", "steps[0]", "chain.predict")
    predictors = [{**DESCRIPTION["predictors"][0], "name": name} for name in names]
    with OddStudent(succeeded, describe=lambda request: described(predictors=predictors)) as odd:
        student = RemoteStudent(odd.address)
        student(question="What?")
    assert tuple(name for name, _ in student.named_predictors()) == names


@pytest.mark.parametrize("name", ["forward", "save", "callbacks", "_lm"])
def test_a_predictor_can_have_no_name_that_dspy_uses(name: str) -> None:
    predictors = [{**DESCRIPTION["predictors"][0], "name": name}]
    with (
        OddStudent(succeeded, describe=lambda request: described(predictors=predictors)) as odd,
        pytest.raises(StudentError, match="rename it in the program"),
    ):
        RemoteStudent(odd.address)


@pytest.mark.parametrize("name", ["user-question", "class", "_private", "1st", "two words"])
def test_a_field_can_have_no_name_that_a_signature_can_not_have(name: str) -> None:
    predictors = [{**DESCRIPTION["predictors"][0], "inputs": [{"name": name}]}]
    with (
        OddStudent(succeeded, describe=lambda request: described(predictors=predictors)) as odd,
        pytest.raises(
            StudentError, match=rf"the fields \['{name}'\] must have names of letters, digits and underscores"
        ),
    ):
        RemoteStudent(odd.address)


def test_an_input_can_not_be_called_self() -> None:
    with (
        OddStudent(succeeded, describe=lambda request: described(inputs=[{"name": "self"}])) as odd,
        pytest.raises(StudentError, match="an input can't be called 'self'"),
    ):
        RemoteStudent(odd.address)


def test_a_student_that_is_not_there_is_named() -> None:
    port = free_port()
    with pytest.raises(StudentUnreachableError, match=f"127.0.0.1:{port}.*Start it"):
        RemoteStudent(f"http://127.0.0.1:{port}")


def test_a_student_of_another_major_version_is_refused() -> None:
    with (
        OddStudent(succeeded, describe=lambda request: described(major=2)) as odd,
        pytest.raises(StudentError, match="speaks version 2"),
    ):
        RemoteStudent(odd.address)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:7000", "must begin with"),
        ("ftp://127.0.0.1", "must begin with"),
        ("http://", "have a host"),
        ("http://127.0.0.1:port", "is not an address"),
        ("http://user:pass@127.0.0.1", "no user"),
        ("grpc://127.0.0.1", "must have a port"),
        ([], "at least one address"),
        ([7000], "must be a string"),
    ],
)
def test_an_address_that_is_not_valid_is_refused(address: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        RemoteStudent(address)


def test_a_token_does_not_travel_in_the_clear() -> None:
    with pytest.raises(ConfigError, match="use https"):
        RemoteStudent("http://students.example", token=TOKEN)


@pytest.mark.parametrize("token", [f"{TOKEN}\n", f"{TOKEN} ", "schlüssel"])
def test_a_token_that_no_header_can_hold_is_refused_without_being_shown(
    token: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMBA_STUDENT_TOKEN", token)
    for use in (lambda: RemoteStudent(address), lambda: student_app(quiz_service(), token=token)):
        with pytest.raises(ConfigError, match="token must be visible ASCII characters") as refused:
            use()
        assert token.strip() not in str(refused.value)


def test_the_rule_writer_reads_the_description_in_place_of_the_code(student: RemoteStudent) -> None:
    assert program_code(student).startswith("Asks for a hint first.\n\nhint = Predict(")


async def test_rules_need_an_lm_that_is_not_the_students(student: RemoteStudent, tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db", student=student, lm=None, prompt_model=None)
    with dspy.context(lm=None), pytest.raises(NoLMError, match="pass prompt_model"):
        await Optimizer.start(config)


def test_an_lm_of_this_process_can_not_teach_it(student: RemoteStudent, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"teacher_lm=.*student\.model"):
        small_config(tmp_path / "simba.db", student=student, teacher_lm=ScriptedLM(quiz_script))


def test_its_predictors_keep_the_lms_of_the_program(address: str, tmp_path: Path) -> None:
    student = RemoteStudent(address)
    student.set_lm(ScriptedLM(quiz_script))
    with pytest.raises(ConfigError, match="the LM of predictor hint="):
        small_config(tmp_path / "simba.db", student=student)


def test_examples_that_do_not_fit_it_are_named(student: RemoteStudent, tmp_path: Path) -> None:
    rows = [dspy.Example(query="What?", answer="That.").with_inputs("query") for _ in range(8)]
    with pytest.raises(ConfigError, match=r"trainset\[0\] does not fit RemoteStudent: its inputs are \['question'\]"):
        small_config(tmp_path / "simba.db", student=student, trainset=rows)


def test_its_lm_says_why_it_can_not_be_called(student: RemoteStudent) -> None:
    with pytest.raises(Exception, match="pass prompt_model"):
        student.model("")("Write a rule.")


async def test_the_work_is_shared_by_all_addresses() -> None:
    everyone_runs = threading.Barrier(4)

    def slow(request: dict[str, Any]) -> dict[str, Any]:
        everyone_runs.wait(PATIENCE)
        return succeeded(request)

    with OddStudent(slow) as first, OddStudent(slow) as second:
        student = await asyncio.to_thread(RemoteStudent, [first.address, second.address])
        await asyncio.gather(*(student.acall(question=QUESTION) for _ in range(4)))
        assert (first.count("Run"), second.count("Run")) == (2, 2)


def test_an_address_that_is_down_is_passed_over(address: str) -> None:
    student = RemoteStudent([f"http://127.0.0.1:{free_port()}", address])
    with pytest.raises(Exception, match="can't be reached"):
        student(question=QUESTION)
    assert [student(question=QUESTION).answer for _ in range(3)]


async def test_a_live_program_runs_it_with_what_is_published(tmp_path: Path) -> None:
    store = tmp_path / "simba.db"
    await publish(store, "hello", predictor="self")
    with served(quiz_service(dspy.Predict("question -> answer"), lm=ScriptedLM(said))) as address:
        live = LiveProgram(RemoteStudent(address), store=store)
        assert (await live.acall(question="?")).answer == "hello"


def test_the_trace_context_of_the_caller_travels() -> None:
    from opentelemetry import trace

    span = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=trace.TraceFlags(1)))
    with OddStudent(succeeded) as odd, trace.use_span(span):
        RemoteStudent(odd.address)(question="What?")
        (request,) = (message for method, message in odd.calls if method == "Run")
    assert request["traceContext"]["traceparent"] == f"00-{0xABC:032x}-{0xDEF:016x}-01"
