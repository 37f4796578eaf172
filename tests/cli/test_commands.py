"""The command line, on a store with one finished run."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import dspy
import pytest
from typer.testing import Result

import simba_actors
from simba_actors import Channel, Optimizer
from simba_actors.cli.app import COMMANDS, make_app
from simba_actors.events import StepClosed
from simba_actors.programs import ConfigurationSpace, Float, load
from simba_actors.search.statistics.trend import Trend
from simba_actors.store import Reader
from tests.support.command_line import run_command
from tests.support.hostile import ADVICE, hostile_script
from tests.support.live import saying
from tests.support.quiz import questions, right_answer
from tests.support.runs import findings, finish, reach, small_config
from tests.support.scripted_lm import ScriptedLM
from tests.support.waiting import PATIENCE

Invoke = Callable[..., Result]
RUN = "colours"
READING = (
    ("runs",),
    ("show", RUN),
    ("watch", RUN),
    ("lineage", RUN),
    ("program", RUN, 1),
    ("failures", RUN, 1),
    ("why", RUN, 1),
    ("compare", RUN, RUN),
    ("channels",),
    ("doctor",),
)
"""Commands that change nothing."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "simba.db"
    lm = ScriptedLM(hostile_script)
    config = small_config(path, run_id=RUN, lm=lm, prompt_model=lm, trainset=questions(6), num_candidates=3)
    asyncio.run(finish(config))
    return path


@pytest.fixture
def store(finished: Path, tmp_path: Path) -> Path:
    """A copy for each test, since some of them change it."""
    return Path(shutil.copytree(finished.parent, tmp_path / "cli")) / finished.name


@pytest.fixture
def invoke(store: Path) -> Invoke:
    return lambda *args: run_command([*args, "--store", store])


def output_json(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def unboxed(text: str) -> str:
    """Return text without the box and the line breaks of usage errors."""
    return " ".join(text.replace("│", " ").split())


async def unfinished(store: Path) -> Path:
    """A store with one run that was stopped after it had closed a step."""
    async with await Optimizer.start(small_config(store, run_id=RUN, max_steps=4)) as optimizer:
        await reach(optimizer, StepClosed)
    return store


def rule_program(invoke: Invoke) -> int:
    """Return the number of a program with a rule of its own, besides its parent's."""
    pool = output_json(invoke("lineage", RUN, "--json"))
    rules = (entry["number"] for entry in pool if entry["strategy"] == "append_a_rule")
    return next(n for n in rules if ADVICE in output_json(invoke("program", RUN, n, "--json"))["diff"])


def test_runs_are_listed(invoke: Invoke) -> None:
    [listed] = output_json(invoke("runs", "--json"))
    assert (listed["run_id"], listed["status"], listed["steps_closed"]) == (RUN, "finished", 2)
    assert RUN in invoke("runs").stdout


def test_a_run_is_shown_with_its_steps(invoke: Invoke) -> None:
    shown = output_json(invoke("show", RUN, "--json"))
    assert [step["step"] for step in shown["steps"]] == [0, 1]
    assert re.search(
        rf"best +program {shown['best']['program']} +{shown['best']['score']:.3f}", invoke("show", RUN).stdout
    )


def test_a_run_of_a_few_steps_has_no_trend_yet(invoke: Invoke) -> None:
    assert output_json(invoke("show", RUN, "--json"))["trend"] is None


def test_the_trend_of_a_longer_run_is_that_of_its_steps(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db", run_id=RUN, max_steps=6)

    async def trend() -> Trend | None:
        await finish(config)
        async with await Reader.open(config.store) as reader:
            progress = await reader.progress(RUN)
            return None if progress is None else progress.trend

    printed = asyncio.run(trend())
    assert printed is not None
    shown = run_command(["show", RUN, "--store", str(config.store)])
    assert f"samples {printed}\n" in shown.stdout


def test_watching_a_finished_run_tells_how_it_ended(invoke: Invoke) -> None:
    line, reason = invoke("watch", RUN).stdout.splitlines()
    assert re.match(r"step 2/2, (best|student) 0\.\d+ \([\d.]+ to [\d.]+\), finished, ", line)
    assert (", finished, " in line, reason) == (True, "all of its 2 steps are done")


def test_watching_with_json_prints_every_event_to_the_end(invoke: Invoke) -> None:
    events = [json.loads(line) for line in invoke("watch", RUN, "--json").stdout.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert (events[0]["kind"], events[-1]["kind"]) == ("RunStarted", "RunFinished")


def test_a_program_is_shown_as_a_diff_against_its_parent(invoke: Invoke) -> None:
    number = rule_program(invoke)
    shown = output_json(invoke("program", RUN, number, "--json"))
    assert f"+{ADVICE}" in shown["diff"]
    assert "made by append_a_rule" in invoke("program", RUN, number).stdout


def test_why_shows_the_two_trajectories_and_the_advice(invoke: Invoke) -> None:
    number = rule_program(invoke)
    [lesson] = output_json(invoke("why", RUN, number, "--json"))["lessons"]
    assert lesson["better"]["trajectory"]["score"] >= lesson["worse"]["trajectory"]["score"]
    text = invoke("why", RUN, number).stdout
    assert all(word in text for word in ("Better: score", "Worse: score", "+Rule:"))


def test_why_shows_one_of_two_trajectories_that_are_equally_good(tmp_path: Path) -> None:
    lm = ScriptedLM(lambda ask: {"answer": "?", "discussion": "", "module_advice": {"self": "Think."}})
    config = small_config(tmp_path / "simba.db", run_id=RUN, lm=lm, prompt_model=lm, policy="adaptive")
    asyncio.run(finish(config))
    shown = run_command(["why", RUN, "1", "--store", str(config.store)]).stdout
    assert "Run: score 0" in shown
    assert "Better" not in shown


def test_what_an_lm_wrote_cannot_steer_the_terminal(invoke: Invoke) -> None:
    text = invoke("program", RUN, rule_program(invoke)).stdout
    assert "\\x1b[31mred" in text
    assert not {"\x1b", "\u202e"} & set(text)


@pytest.mark.parametrize("arguments", [*READING, ("program", RUN, 1, "--full"), ("failures", RUN, 0, "--all")])
def test_no_command_lets_an_lm_steer_the_terminal(invoke: Invoke, arguments: tuple[object, ...]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 0
    assert not {"\x1b", "\u202e", "\x07", "\x9b"} & set(result.output)


def test_no_name_of_a_run_steers_the_terminal(tmp_path: Path) -> None:
    name = "a \u202erun"
    asyncio.run(finish(small_config(tmp_path / "simba.db", run_id=name, max_steps=1)))
    for words in (["runs"], ["compare", name, name]):
        shown = run_command([*words, "--store", str(tmp_path / "simba.db")]).output
        assert "a \\u202erun" in shown
        assert "\u202e" not in shown


def test_the_lineage_has_each_program_under_its_parent(invoke: Invoke) -> None:
    pool = output_json(invoke("lineage", RUN, "--json"))
    lines = invoke("lineage", RUN).stdout
    assert lines.count(" winner ") == 1
    depths = {
        int(number): len(guides) // 4 for guides, number in re.findall(r"^([ │├└─]*)(\d+)  ", lines, re.MULTILINE)
    }
    assert lines.startswith("0  ")
    assert sorted(depths) == [entry["number"] for entry in pool]
    assert all(depths[entry["number"]] == depths[entry["parents"][0]] + 1 for entry in pool if entry["parents"])


def test_an_exported_program_is_loaded_by_dspy(invoke: Invoke, tmp_path: Path) -> None:
    number = rule_program(invoke)
    path = tmp_path / "best.json"
    assert output_json(invoke("export", RUN, number, path, "--json"))["program"] == number
    student: Any = dspy.Predict("question -> answer")
    student.load(path)
    assert student.signature.instructions.endswith(ADVICE)
    assert list(student.signature.fields) == ["question", "answer"]


def test_an_exported_program_has_the_settings_of_its_lm(tmp_path: Path) -> None:
    student = dspy.Predict("question -> answer", temperature=0.7)
    space = ConfigurationSpace.from_module(student, settings={"self.temperature": Float(0.0, 1.0)})
    config = small_config(tmp_path / "simba.db", run_id=RUN, student=student, space=space, policy="adaptive")
    asyncio.run(finish(config))
    exported = run_command(["export", RUN, "0", str(tmp_path / "best.json"), "--json", "--store", str(config.store)])
    assert output_json(exported)["program"] == 0
    assert load(tmp_path / "best.json", student, space) == space.extract(student)


def test_what_a_run_expects_is_shown(tmp_path: Path) -> None:
    stop = {"stop_when": lambda progress: progress.step >= 1}  # So that calls are left.
    config = small_config(tmp_path / "simba.db", run_id=RUN, policy="adaptive", max_steps=4, **stop)
    asyncio.run(finish(config))
    shown = output_json(run_command(["show", RUN, "--json", "--store", str(config.store)]))
    text = run_command(["show", RUN, "--store", str(config.store)]).output
    assert shown["outlook"]["calls"] > 0
    assert f"outlook {shown['outlook']['calls']} more calls are expected to add" in text
    assert shown["forecast"]["calls"] > 0


class TwoSteps(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        signature: Any = dspy.Signature
        self.hint = dspy.Predict(signature("question -> hint", "Give a hint."))
        self.answer = dspy.Predict("question, hint -> answer")

    def forward(self, question: str) -> Any:
        return self.answer(question=question, hint=self.hint(question=question).hint)


def test_an_exported_program_has_the_predictors_that_were_not_optimized(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db", run_id=RUN, student=TwoSteps(), optimize=["answer"])
    winner: Any = asyncio.run(finish(config)).program
    exported = run_command(["export", str(tmp_path / "best.json"), "--store", str(config.store)])
    assert exported.exit_code == 0
    student: Any = TwoSteps()
    student.hint.signature = student.hint.signature.with_instructions("Say nothing.")
    student.load(tmp_path / "best.json")
    assert student.hint.signature.instructions == "Give a hint."
    assert student.answer.signature.instructions == winner.answer.signature.instructions


def test_without_a_number_the_best_program_is_exported(invoke: Invoke, tmp_path: Path) -> None:
    best = output_json(invoke("show", RUN, "--json"))["best"]["program"]
    assert output_json(invoke("export", RUN, tmp_path / "best.json", "--json"))["program"] == best


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((RUN, 1, 2, "best.json"), "only one program fits in a file"),
        ((RUN, "no/such/directory/best.json"), "can't be written"),
        ((RUN, 7), "must be a file whose name ends in .json"),
        ((RUN,), "must be a file whose name ends in .json"),
        ((), "Missing argument"),
    ],
)
def test_an_export_that_cannot_be_says_why(invoke: Invoke, arguments: Any, message: str) -> None:
    result = invoke("export", *arguments)
    assert (result.exit_code, message in unboxed(result.stderr)) == (2, True)


def test_an_export_replaces_no_file_unless_forced(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "best.json"
    path.write_text("precious")
    refused = invoke("export", RUN, path)
    assert (refused.exit_code, "exists: give another file, or --force" in unboxed(refused.stderr)) == (2, True)
    assert path.read_text() == "precious"
    assert invoke("export", RUN, path, "--force").exit_code == 0
    assert json.loads(path.read_text())["signature"]["instructions"]


def test_an_export_of_an_unfinished_run_does_not_guess_the_winner(tmp_path: Path) -> None:
    store = asyncio.run(unfinished(tmp_path / "simba.db"))
    path = tmp_path / "best.json"
    refused = run_command(["export", RUN, str(path), "--store", str(store)])
    assert (refused.exit_code, path.exists()) == (1, False)
    assert "has no winner yet" in refused.stderr
    assert "name the program to export" in refused.stderr
    assert run_command(["export", RUN, "0", str(path), "--store", str(store)]).exit_code == 0


def test_versions_are_published_rolled_back_and_pruned(invoke: Invoke) -> None:
    assert output_json(invoke("publish", RUN, 0, "bot", "--json"))["version"] == 1
    number = rule_program(invoke)
    assert output_json(invoke("publish", RUN, number, "bot", "--reason", "better", "--json"))["program"] == number
    assert output_json(invoke("rollback", "bot", "--json"))["origin"] == 1
    versions = output_json(invoke("versions", "bot", "--json"))
    assert [(v["version"], v["serving"]) for v in versions] == [(3, "yes"), (2, ""), (1, "")]
    assert "program 0 of colours" in invoke("versions", "bot").stdout
    newest, _, note = invoke("versions", "bot", "--limit", 1).stdout.splitlines()[1:]
    assert (newest.split()[0], note) == ("3", "the newest of 3 versions; --limit shows more")
    assert output_json(invoke("prune", "bot", "--keep", "1", "--json"))["pruned"] == 1


@pytest.mark.parametrize("time", [253_402_300_800.0, 1e300, -1e12], ids=["year 10000", "far", "before year 1"])
def test_versions_are_listed_whatever_the_clock_of_the_publisher_said(tmp_path: Path, time: float) -> None:
    async def publish() -> None:
        async with await Channel.open(tmp_path / "simba.db", "bot", clock=lambda: time) as channel:
            await channel.publish(saying("one"), reason="say one")

    asyncio.run(publish())
    assert "say one" in run_command(["versions", "bot", "--store", str(tmp_path / "simba.db")]).stdout


def test_a_fork_goes_on_to_the_same_end(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db", run_id=RUN)
    asyncio.run(finish(config))
    forked = run_command(["fork", RUN, "--at", "1", "--as", "again", "--json", "--store", str(config.store)])
    assert output_json(forked) == {"run_id": "again", "forked_from": RUN, "steps": 1}
    again = small_config(tmp_path / "simba.db", run_id="again")
    asyncio.run(finish(again))
    assert asyncio.run(findings(again, "again")) == asyncio.run(findings(config, RUN))
    printed = run_command(["watch", "again", "--json", "--store", str(config.store)]).stdout.splitlines()
    assert {"kind": "RunForked", "source": RUN, "steps": 1}.items() <= json.loads(printed[0]).items()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "nothing"), "has no run 'nothing'; it has colours"),
        (("program", RUN, 999), "has no program 999"),
        (("fork", RUN, "--at", 9, "--as", "x"), "has closed 2 steps"),
        (("fork", RUN, "--at", 1, "--as", ""), "new_run_id='': give the fork a name"),
        (("versions", "nobody"), "has no channel 'nobody'"),
        (("rollback", "nobody"), "has no channel 'nobody'"),
    ],
)
def test_bad_input_ends_with_one_line_and_exit_code_1(invoke: Invoke, arguments: Any, message: str) -> None:
    result = invoke(*arguments)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert message in result.stderr
    assert json.loads(invoke(*arguments, "--json").stdout)["error"] in result.stderr


def test_a_sound_store_passes_the_doctor(invoke: Invoke) -> None:
    assert all(finding["ok"] for finding in output_json(invoke("doctor", "--json")))


def test_a_store_with_missing_rows_fails_the_doctor(store: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.db"
    with closing(sqlite3.connect(store)) as source, closing(sqlite3.connect(broken)) as copy, copy:
        source.backup(copy)
        copy.execute("DELETE FROM events WHERE seq = 3")
    result = run_command(["doctor", "--store", str(broken)])
    assert result.exit_code == 1
    assert "BAD  events are numbered without gaps" in result.stdout


def test_reading_leaves_the_file_as_it_is(invoke: Invoke, store: Path) -> None:
    before = store.read_bytes()
    for arguments in READING:
        assert invoke(*arguments).exit_code == 0
    assert store.read_bytes() == before


def test_reading_waits_for_no_writer_and_keeps_none_waiting(invoke: Invoke, store: Path) -> None:
    with closing(sqlite3.connect(store, isolation_level=None, timeout=0)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE runs SET reason = 'not committed yet'")
        for arguments in READING:
            result = invoke(*arguments)
            assert (result.exit_code, "not committed yet" in result.stdout) == (0, False)
        writer.execute("COMMIT")
    assert "not committed yet" in invoke("show", RUN).stdout


def test_the_package_is_a_command_too(store: Path) -> None:
    command = [sys.executable, "-m", "simba_actors", "runs", "--json", "--store", str(store)]
    listed = json.loads(
        subprocess.run(
            command,
            capture_output=True,
            check=True,
            text=True,
            timeout=PATIENCE,
        ).stdout
    )
    assert listed[0]["run_id"] == RUN


def test_a_name_may_be_shortened_or_left_out(invoke: Invoke) -> None:
    shown = output_json(invoke("show", "--json"))
    assert shown["run_id"] == RUN
    for name in (RUN, "col", "latest"):
        assert output_json(invoke("show", name, "--json")) == shown


def test_a_name_that_means_several_runs_is_refused(tmp_path: Path) -> None:
    for run_id in ("first-try", "first-success", "second"):
        asyncio.run(finish(small_config(tmp_path / "simba.db", run_id=run_id, max_steps=1)))

    def show(*arguments: str) -> Result:
        return run_command(["show", *arguments, "--store", str(tmp_path / "simba.db")])

    assert "is the start of 2 runs (first-success, first-try)" in show("first").stderr
    assert "the store has 3 runs (second, first-success, first-try): name one, or use latest" in show().stderr
    assert show("latest").stdout.startswith("second: finished")
    assert show("first-s").stdout.startswith("first-success: finished")


def test_a_store_without_runs_says_so(tmp_path: Path) -> None:
    asyncio.run(unfinished(tmp_path / "simba.db"))
    with closing(sqlite3.connect(tmp_path / "simba.db", isolation_level=None)) as db:
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute("DELETE FROM runs")
    empty = ["--store", str(tmp_path / "simba.db")]
    assert "has no runs yet: start one" in run_command(["runs", *empty]).stdout
    assert "has no runs yet: start one" in run_command(["show", *empty]).stderr


def test_names_are_never_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "a-run-with-a-name-that-is-longer-than-the-terminal-is-wide"
    asyncio.run(finish(small_config(tmp_path / "simba.db", run_id=name, max_steps=1)))
    monkeypatch.setenv("FORCE_COLOR", "1")  # As if it were a terminal.
    monkeypatch.setenv("COLUMNS", "40")
    assert name in run_command(["runs", "--store", str(tmp_path / "simba.db")]).stdout


def test_a_file_before_or_after_the_command_is_the_store(store: Path) -> None:
    assert RUN in run_command([str(store)]).stdout
    assert "ok " in run_command(["doctor", str(store)]).stdout
    assert run_command([str(store), "show", RUN]).stdout.startswith(f"{RUN}: finished")


def test_a_run_is_shown_with_its_settings_and_the_intervals_of_its_scores(invoke: Invoke) -> None:
    assert re.search(r"num_candidates +3 *\n", invoke("show").stdout)
    best = output_json(invoke("show", "--json"))["best"]
    assert best["low"] < best["score"] < best["high"]


def test_a_perfect_score_has_an_interval_too(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db", run_id=RUN, metric=lambda example, prediction: 1.0, max_steps=1)
    asyncio.run(finish(config))
    best = output_json(run_command(["show", "--json", "--store", str(config.store)]))["best"]
    assert (best["score"], best["high"], best["low"] < 1.0) == (1.0, 1.0, True)


def test_errors_of_failed_rollouts_are_counted(tmp_path: Path) -> None:
    class Failing(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.answer = dspy.Predict("question -> answer")

        def forward(self, question: str) -> Any:
            prediction = self.answer(question=question)
            if prediction.answer == "green":
                raise ValueError("green is out of stock")
            return prediction

    config = small_config(tmp_path / "simba.db", run_id=RUN, student=Failing(), max_steps=1)
    asyncio.run(finish(config))
    options = ["--store", str(config.store)]
    counted = output_json(run_command(["show", "--json", *options]))["failures"]
    assert "green is out of stock" in counted[0]["error"]
    assert "green is out of stock" in run_command(["show", *options]).stdout
    command = ["failures", str(counted[0]["program"]), "--failed", "--json", *options]
    found = output_json(run_command(command))["rollouts"]
    assert {failure["rollout"]["trajectory"]["outcome"] for failure in found} == {"program_failure"}


def test_failures_are_shown_beside_the_students_run_on_the_same_example(invoke: Invoke) -> None:
    found = output_json(invoke("failures", RUN, 1, "--json"))["rollouts"]
    assert found
    for failure in found:
        ours, student = failure["rollout"], failure["student"]
        assert ours["rollout"]["program"] == 1
        assert ours["trajectory"]["score"] < 1
        assert (student["rollout"]["program"], student["rollout"]["example"]) == (0, ours["rollout"]["example"])
    assert "question ← " in invoke("failures", RUN, 1).stdout


def test_failures_say_what_was_expected(invoke: Invoke) -> None:
    failure = output_json(invoke("failures", RUN, 0, "--json"))["rollouts"][0]["rollout"]
    question = failure["trajectory"]["trace"][0]["inputs"]["question"]
    assert failure["trajectory"]["expected"] == {"answer": right_answer(question)}
    assert f"expected answer: {right_answer(question)}" in invoke("failures", RUN, 0).stdout


def test_failures_are_filtered_by_score_and_text(invoke: Invoke) -> None:
    everything = output_json(invoke("failures", RUN, 0, "--all", "--limit", 1000, "--json"))["rollouts"]
    assert {1.0, 0.0} == {float(failure["rollout"]["trajectory"]["score"]) for failure in everything}
    half = output_json(invoke("failures", RUN, 0, "--all", "--at-most", 0.5, "--limit", 1000, "--json"))["rollouts"]
    assert len(half) == sum(failure["rollout"]["trajectory"]["score"] == 0 for failure in everything)
    ball = output_json(invoke("failures", RUN, 0, "--all", "--text", "BALL 2?", "--json"))["rollouts"]
    assert {failure["rollout"]["trajectory"]["trace"][0]["inputs"]["question"] for failure in ball} == {
        "What is the colour of ball 2?"
    }


def test_the_full_prompt_is_what_dspy_sends(invoke: Invoke) -> None:
    messages = output_json(invoke("program", RUN, "student", "--full", "--json"))["messages"]
    question = messages[-1]["content"].split("## ]]\n")[1].split("\n")[0]
    student: Any = dspy.Predict("question -> answer")
    expected = dspy.ChatAdapter().format(student.signature, [], {"question": question})
    assert [(message["role"], message["content"]) for message in messages] == [
        (message["role"], message["content"]) for message in expected
    ]


def test_two_runs_are_compared(tmp_path: Path) -> None:
    store = tmp_path / "simba.db"
    for run_id, seed in (("one", 1), ("two", 2)):
        asyncio.run(finish(small_config(store, run_id=run_id, seed=seed, max_steps=1)))
    compared = output_json(run_command(["compare", "one", "two", "--json", "--store", str(store)]))
    assert [run["run_id"] for run in compared["runs"]] == ["one", "two"]
    assert compared["differing_settings"] == {"seed": ["1", "2"]}
    assert "two best" in run_command(["compare", "one", "two", "--store", str(store)]).stdout


def test_a_canary_is_published_and_promoted(invoke: Invoke) -> None:
    assert "has no channels yet" in invoke("channels").stdout
    assert invoke("publish", "student", "bot").exit_code == 0
    assert "tries version 2 on 20% of calls" in invoke("publish", RUN, 1, "bot", "--share", 0.2).stdout
    [listed] = output_json(invoke("channels", "--json"))
    assert (listed["current"]["version"], listed["canary"]["version"], listed["canary"]["share"]) == (1, 2, 0.2)
    assert output_json(invoke("promote", "bot", "--json"))["kind"] == "promote"
    assert "version 3" in invoke("channels").stdout


def test_a_share_below_one_percent_is_shown(invoke: Invoke) -> None:
    invoke("publish", "student", "bot")
    assert "on 0.4% of calls" in invoke("publish", RUN, 1, "bot", "--share", 0.004).stdout


def test_what_needs_a_channel_creates_no_store(tmp_path: Path) -> None:
    for command in (["promote", "bot"], ["rollback", "bot"], ["prune", "bot"]):
        result = run_command([*command, "--store", str(tmp_path / "simba.db")])
        assert (result.exit_code, "does not exist" in result.stderr) == (1, True)
    assert not (tmp_path / "simba.db").exists()


def test_the_version_is_printed() -> None:
    assert run_command(["--version"]).stdout == f"{simba_actors.__version__}\n"


IMPORTED = """
import contextlib, io, json, sys
from simba_actors.cli import main

for words in json.loads(sys.argv[1]):
    sys.argv = ["simba-actors", *words]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main()
    print(words[0], [name for name in ("dspy", "numpy") if name in sys.modules])
"""


def test_reading_and_publishing_import_neither_dspy_nor_numpy(store: Path) -> None:
    publishing = [("publish", RUN, 0, "bot"), ("publish", RUN, 1, "bot"), ("rollback", "bot"), ("prune", "bot")]
    lines = [*READING, ("versions", "bot"), ("failures", RUN, 0, "--json"), *publishing]
    commands = json.dumps([[*map(str, line), "--store", str(store)] for line in lines])
    ended = subprocess.run(
        [sys.executable, "-c", IMPORTED, commands], capture_output=True, check=True, text=True, timeout=PATIENCE
    )
    assert ended.stdout.splitlines() == [f"{line[0]} []" for line in lines]


def test_a_command_line_builds_only_the_command_that_it_names() -> None:
    for words in (["runs"], ["runs", "--json"], ["other.db"], ["other.db", "runs"]):
        assert [command.name for command in make_app(words).registered_commands] == ["runs"]
    assert len(make_app(["--help"]).registered_commands) == len(COMMANDS)
