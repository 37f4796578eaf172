"""Errors of a config for input that can't work, before any money is spent."""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path
from typing import Any, Unpack

import dspy
import pytest
from dspy.utils.callback import BaseCallback

from simba_actors import SIMBA, Budget, Optimizer, OptimizerConfig, RayExecutor, config_checks, evaluate
from simba_actors.errors import (
    ConfigError,
    FingerprintMismatchError,
    MetricError,
    MisfitError,
    NoLMError,
    NotAStoreError,
    RunningLoopError,
    RunOwnedError,
    StoreError,
)
from simba_actors.evaluation.executor import ExecutorArguments, LocalExecutor
from simba_actors.live import LiveProgram
from simba_actors.programs import ConfigurationSpace, Integer
from simba_actors.strategies import AppendADemo, AppendARule
from tests.support.quiz import exact, questions, quiz_script
from tests.support.runs import finish, small_config
from tests.support.scripted_lm import ScriptedLM
from tests.support.threads import no_threads_left
from tests.support.waiting import PATIENCE


class NoPredictors(dspy.Module):
    def forward(self, question: str) -> dspy.Prediction:
        return dspy.Prediction(answer=question)


class Methodless(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")


class Generates(Methodless):
    def forward(self, question: str) -> Any:
        yield self.ask(question=question)


class AsyncForward(Methodless):
    async def forward(self, question: str) -> Any:
        return await self.ask.acall(question=question)


class TakesText(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, text: str) -> dspy.Prediction:
        return self.predict(question=text)


def only_one_argument(example: Any) -> float:
    return 1.0


async def makes_an_executor(**arguments: Unpack[ExecutorArguments]) -> LocalExecutor:
    return LocalExecutor(**arguments)


UNMARKED = [dspy.Example(question="?", answer="!")] * 8

BAD_VALUES: list[tuple[str, dict[str, Any], str]] = [
    ("a_student_without_predictors", {"student": NoPredictors()}, "NoPredictors has no predictors"),
    ("a_student_that_is_no_module", {"student": exact}, "student must be a dspy.Module, not function"),
    ("a_class_of_modules", {"student": Generates}, "student is the class Generates, .*: call it, as in Generates"),
    (
        "a_live_program",
        {"student": LiveProgram(dspy.Predict("question -> answer"), store="none.db")},
        "student is a LiveProgram, which runs what is published: pass live.student instead",
    ),
    (
        "settings_for_a_policy_that_chooses_none",
        {"space": ConfigurationSpace.from_module(dspy.Predict("question -> answer"), {"self.n": Integer(1, 3)})},
        "space has settings, which policy='dspy' can't choose",
    ),
    ("a_space_of_another_type", {"space": "answer"}, "space must be a ConfigurationSpace, .* not 'answer'"),
    ("a_predictor_that_is_not_there", {"optimize": ["ask"]}, r"optimize names \['ask'\], which .* it has \['self'\]"),
    (
        "a_predictor_in_place_of_a_list",
        {"optimize": "self"},
        "must be a list of predictors' names",
    ),
    (
        "predictors_beside_a_space",
        {"optimize": ["self"], "space": ConfigurationSpace.from_module(dspy.Predict("question -> answer"))},
        "optimize and space are both given: use",
    ),
    (
        "a_student_that_generates",
        {"student": Generates()},
        "Generates.forward is a generator",
    ),
    ("a_forward_that_is_async", {"student": AsyncForward()}, "AsyncForward.forward is async, .*: rename it aforward"),
    ("a_student_without_a_method", {"student": Methodless()}, "Methodless has neither forward nor aforward"),
    ("a_store_that_is_no_path", {"store": None}, "store=None: must be the path of a file"),
    ("a_governor_of_another_type", {"governor": 500}, "governor must be a Governor, not int: 500"),
    (
        "the_name_of_an_executor",
        {"executor": "ray"},
        r"executor='ray' can't be called .*: pass RayExecutor\(workers=8\)",
    ),
    (
        "an_executors_class",
        {"executor": RayExecutor},
        r"executor=<class .*RayExecutor'> does not take .*: pass RayExecutor\(workers=8\)",
    ),
    (
        "an_executor_of_other_arguments",
        {"executor": only_one_argument},
        "does not take the arguments of a factory",
    ),
    ("an_executor_made_by_a_coroutine", {"executor": makes_an_executor}, "is async, but is not awaited: pass"),
    ("an_empty_trainset", {"trainset": []}, "trainset is empty"),
    ("too_few_examples", {"bsize": 9}, "trainset has 8 examples, fewer than bsize=9"),
    ("examples_without_inputs", {"trainset": UNMARKED}, r"trainset\[0\] does not say .*with_inputs"),
    (
        "rows_that_are_no_examples",
        {"trainset": [{}] * 8},
        r"trainset\[0\] must be a dspy.Example, not dict: dspy.Example",
    ),
    ("inputs_that_do_not_fit", {"student": TakesText()}, r"trainset\[0\] does not fit TakesText"),
    ("inputs_that_do_not_fit_a_predict", {"student": dspy.Predict("text -> answer")}, r"its inputs are \['text'\]"),
    ("a_metric_that_is_not_callable", {"metric": "exact"}, "metric must be callable"),
    ("a_metric_of_one_argument", {"metric": only_one_argument}, "takes the wrong arguments"),
    ("no_rows_a_step", {"bsize": 0}, "bsize=0: must be a whole number of at least 1"),
    ("a_negative_size", {"num_candidates": -1}, "num_candidates=-1"),
    ("a_size_beyond_64_bits", {"max_steps": 2**63}, r"max_steps .* at most 2\*\*63 - 1"),
    ("a_seed_beyond_64_bits", {"seed": 10**5000}, r"seed .* at most 2\*\*63 - 1"),
    ("a_number_beyond_floats", {"rollout_timeout": 10**400}, "must be a number above 0"),
    ("a_size_that_is_not_whole", {"max_steps": 1.5}, "max_steps=1.5"),
    ("a_size_that_is_a_bool", {"bsize": True}, "bsize=True"),
    ("negative_demos", {"max_demos": -1}, "max_demos=-1"),
    ("no_concurrency", {"max_concurrency": 0}, "max_concurrency=0"),
    ("a_negative_temperature", {"temperature_for_sampling": -0.1}, "temperature_for_sampling=-0.1"),
    ("a_temperature_that_is_no_number", {"temperature_for_candidates": float("nan")}, "temperature_for_candidates=nan"),
    ("no_time_for_a_rollout", {"rollout_timeout": 0}, "rollout_timeout=0"),
    ("an_unknown_policy", {"policy": "magic"}, "policy='magic'"),
    ("no_strategies", {"strategies": []}, "strategies is empty: pass at least one strategy"),
    ("a_strategy_by_name", {"strategies": ["append_a_demo"]}, r"strategies\[0\]='append_a_demo' is not a strategy"),
    ("a_strategys_class", {"strategies": [AppendADemo]}, r"strategies\[0\]=<class .* is not a strategy"),
    ("an_lm_by_name", {"lm": "openai/x"}, r"lm must be a dspy\.LM, not str, as in dspy\.LM\('openai/x'\)"),
    ("a_prompt_model_by_name", {"prompt_model": "openai/x"}, "prompt_model must be a dspy.LM"),
    ("a_teacher_by_name", {"teacher_lm": "openai/x"}, "teacher_lm must be a dspy.LM"),
    ("a_budget_that_is_a_number", {"budget": 500}, r"must be a Budget, as in Budget\(max_calls=5_000\), not 500"),
    (
        "a_budget_too_small_to_learn_from",
        {"policy": "adaptive", "bsize": 3, "budget": Budget(max_calls=3)},
        r"max_calls=3 is too small .* With bsize=3, a run of 1 predictor needs at least 14 calls",
    ),
    ("a_trainset_that_can_be_read_once", {"trainset": iter([])}, "trainset must be a list of dspy.Example"),
    ("an_address_as_the_store", {"store": "https://host/simba"}, "Only live programs can follow a server"),
    ("a_store_in_the_home_of_a_shell", {"store": "~/simba.db"}, r"pass Path\(…\).expanduser\(\)"),
    ("a_store_in_memory", {"store": ":memory:"}, "must be the path of a file, since a run outlives its process"),
    ("a_run_id_that_is_not_a_string", {"run_id": ("a", 1)}, r"run_id must be a string, not tuple: \('a', 1\)"),
    ("a_run_id_that_no_store_takes", {"run_id": "x\ud800"}, "run_id='x.*' holds half of a surrogate pair"),
    (
        "a_single_callback",
        {"callbacks": print},
        r"callbacks must be a list of functions, as in \[print\], not <built-in",
    ),
    ("a_callback_that_is_not_callable", {"callbacks": [5]}, "callbacks: 5 is not callable"),
    ("strategies_that_are_no_list", {"strategies": 5}, r"strategies must be a list, .*, not 5"),
    (
        "two_strategies_of_one_name",
        {"strategies": [AppendADemo(10), AppendARule(), AppendADemo(100)]},
        r"strategies\[0\] and strategies\[2\] are both named 'append_a_demo'",
    ),
    ("no_valset_at_all", {"valset": None}, "valset must be a list of dspy.Example, not NoneType"),
]


@pytest.mark.parametrize(("change", "message"), [case[1:] for case in BAD_VALUES], ids=[case[0] for case in BAD_VALUES])
def test_a_config_refuses(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        small_config(**{"store": tmp_path / "simba.db", **change})


@pytest.mark.parametrize("cap", [0, -1, True, "5", float("nan")])
def test_a_budget_refuses_a_cap_that_is_no_number_above_zero(cap: Any) -> None:
    with pytest.raises(ConfigError, match="max_calls"):
        Budget(max_calls=cap)


async def test_a_run_without_any_lm_says_how_to_give_one(tmp_path: Path) -> None:
    with dspy.context(lm=None), pytest.raises(NoLMError, match=r"pass lm=dspy\.LM"):
        await Optimizer.start(small_config(tmp_path / "simba.db", lm=None))


async def test_a_factory_that_returns_no_executor_is_named_when_the_run_starts(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db", executor=lambda **arguments: None)
    with pytest.raises(ConfigError, match="returned None, which runs no rollouts: let it return an object with"):
        await Optimizer.start(config)


async def test_a_run_uses_the_executor_that_a_factory_of_the_users_makes(tmp_path: Path) -> None:
    made: list[LocalExecutor] = []

    def make(**arguments: Unpack[ExecutorArguments]) -> LocalExecutor:
        made.append(LocalExecutor(**arguments))
        return made[-1]

    await finish(small_config(tmp_path / "simba.db", executor=make))
    assert len(made) == 1


async def test_a_store_in_a_missing_directory_says_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no directory"):
        await Optimizer.start(small_config(tmp_path / "missing" / "simba.db"))


async def test_a_start_that_fails_leaves_no_threads(tmp_path: Path) -> None:
    with no_threads_left(), pytest.raises(StoreError):
        await Optimizer.start(small_config(tmp_path / "missing" / "simba.db"))


async def test_a_store_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are notes, and no database at all. " * 100)
    with pytest.raises(NotAStoreError):
        await Optimizer.start(small_config(path))
    assert path.read_text().startswith("These are notes")


async def test_a_relative_store_stays_where_it_was_when_the_process_changes_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with await Optimizer.start(small_config(Path("simba.db"))) as optimizer:
        monkeypatch.chdir("/")
        await optimizer.result(PATIENCE)
        assert optimizer.store == tmp_path / "simba.db"


async def test_two_optimizers_can_not_have_one_run_open(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db", run_id="mine")
    async with await Optimizer.start(config):
        with pytest.raises(RunOwnedError, match="'mine' is open in process"):
            await Optimizer.start(config)


class Guess(dspy.Signature):
    """Guess."""

    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


CHANGES: dict[str, dict[str, Any]] = {
    "student": {"student": dspy.Predict(Guess)},
    "trainset": {"trainset": questions(8, start=100)},
    "bsize": {"bsize": 4},
    "seed": {"seed": 4},
}


@pytest.mark.parametrize("name", CHANGES)
async def test_resuming_with_another_setting_says_which(name: str, tmp_path: Path) -> None:
    await finish(small_config(tmp_path / "simba.db", run_id="mine", max_steps=1))
    with pytest.raises(FingerprintMismatchError, match=name):
        await Optimizer.start(small_config(tmp_path / "simba.db", run_id="mine", max_steps=1, **CHANGES[name]))


def raises(example: Any, prediction: Any) -> float:
    raise KeyError("a bug of the metric's")


WRONG_SCORES: dict[str, Any] = {"none": None, "nan": float("nan"), "text": "good"}


@pytest.mark.parametrize("name", WRONG_SCORES)
async def test_a_metric_that_gives_no_number_ends_the_run_with_the_cause(name: str, tmp_path: Path) -> None:
    def metric(example: Any, prediction: Any) -> Any:
        return WRONG_SCORES[name]

    with pytest.raises(MetricError, match="the metric returned"):
        await finish(small_config(tmp_path / "simba.db", metric=metric))


async def test_a_run_whose_metric_raised_continues_with_a_fixed_one(tmp_path: Path) -> None:
    with pytest.raises(MetricError, match="a bug of the metric's"):
        await finish(small_config(tmp_path / "simba.db", run_id="mine", metric=raises))

    def fixed(example: dspy.Example, prediction: dspy.Prediction) -> bool:
        return exact(example, prediction)

    fixed.__qualname__ = raises.__qualname__
    result = await finish(small_config(tmp_path / "simba.db", run_id="mine", metric=fixed))
    assert result.run_id == "mine"


async def test_compile_in_a_running_loop_points_to_acompile() -> None:
    with pytest.raises(RunningLoopError, match="acompile"):
        SIMBA(metric=exact, bsize=3).compile(dspy.Predict("question -> answer"), trainset=questions(3))


class Compiles(BaseCallback):
    """Notes the calls of `compile`."""

    def __init__(self) -> None:
        self.noted: list[str] = []

    def on_compile_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self.noted.append(f"start with {sorted(inputs)}")

    def on_compile_end(self, call_id: str, outputs: Any, exception: Exception | None = None) -> None:
        self.noted.append(f"end with {type(outputs).__name__}, {exception}")


def test_acompile_calls_dspys_compile_callbacks_as_compile_does() -> None:
    lm = ScriptedLM(quiz_script)
    simba = SIMBA(metric=exact, bsize=3, num_candidates=2, max_steps=1, lm=lm, prompt_model=lm)
    noted = list[list[str]]()
    for method in ("compile", "acompile"):
        callback = Compiles()
        with dspy.context(callbacks=[callback]):
            made = getattr(simba, method)(dspy.Predict("question -> answer"), trainset=questions(4), seed=1)
            if method == "acompile":
                asyncio.run(made)
        noted.append(callback.noted)
    assert noted == [["start with ['seed', 'student', 'trainset', 'valset']", "end with Predict, None"]] * 2


def test_the_drop_in_takes_what_a_script_may_need_besides_dspys_arguments() -> None:
    lm = ScriptedLM(quiz_script)
    simba = SIMBA(
        metric=exact,
        bsize=3,
        num_candidates=2,
        max_steps=4,
        lm=lm,
        prompt_model=lm,
        rollout_timeout=60.0,
        stop_when=lambda progress: "enough",
        budget=Budget(max_calls=40),
        policy="adaptive",
    )
    student = dspy.Predict("question -> answer")
    program: Any = simba.compile(student, trainset=questions(6), valset=questions(4, start=6), seed=1)
    assert program.trial_logs.keys() == {0}
    assert 0 < len(lm.asks) <= 40


def test_a_config_is_checked_without_an_lm(tmp_path: Path) -> None:
    config = OptimizerConfig(
        student=dspy.Predict("question -> answer"), metric=exact, trainset=questions(32), store=tmp_path / "simba.db"
    )
    assert config.lm is None


def test_a_config_is_shown_without_its_examples(tmp_path: Path) -> None:
    shown = repr(small_config(tmp_path / "simba.db"))
    assert "metric=" in shown
    assert "Example(" not in shown


def test_a_decorated_metric_is_judged_by_what_its_decorator_takes(tmp_path: Path) -> None:
    def metric(low: float, high: float, example: Any, prediction: Any) -> float:
        return high if example.answer == prediction.answer else low

    @functools.wraps(metric)
    def decorated(example: Any, prediction: Any) -> float:
        return metric(0.0, 1.0, example, prediction)

    assert small_config(tmp_path / "simba.db", metric=decorated).metric is decorated


def test_a_space_of_another_student_is_refused(tmp_path: Path) -> None:
    space = ConfigurationSpace.from_module(TakesText())
    with pytest.raises(MisfitError, match="Predict has no predictor 'predict'"):
        small_config(tmp_path / "simba.db", space=space)


def test_examples_in_both_sets_are_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small_config(tmp_path / "simba.db", policy="adaptive", valset=questions(5, start=6))
    assert "2 of the valset's 5 examples are in the trainset too" in caplog.text


@pytest.fixture
def two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a config check two examples of a list, and leave the others to the start."""
    monkeypatch.setattr(config_checks, "CHECKED_AT_ONCE", 2)


@pytest.mark.usefixtures("two_at_once")
async def test_examples_that_a_config_leaves_to_the_start_are_checked_then(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db", trainset=[*questions(4), *UNMARKED])
    with pytest.raises(ConfigError, match=r"trainset\[4\] does not say .*with_inputs"):
        await Optimizer.start(config)


@pytest.mark.usefixtures("two_at_once")
async def test_the_start_checks_that_inputs_fit_the_student(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db", trainset=[*questions(4), dspy.Example(text="x").with_inputs("text")])
    with pytest.raises(ConfigError, match=r"trainset\[4\] does not fit Predict"):
        await Optimizer.start(config)


@pytest.mark.usefixtures("two_at_once")
async def test_the_start_warns_of_examples_in_both_sets(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = small_config(tmp_path / "simba.db", policy="adaptive", valset=questions(5, start=6))
    assert not caplog.text
    async with await Optimizer.start(config):
        assert "2 of the valset's 5 examples are in the trainset too" in caplog.text


@pytest.mark.usefixtures("two_at_once")
async def test_an_evaluation_checks_all_examples() -> None:
    with pytest.raises(ConfigError, match=r"examples\[4\] does not say .*with_inputs"):
        await evaluate(dspy.Predict("question -> answer"), [*questions(4), *UNMARKED], exact)
