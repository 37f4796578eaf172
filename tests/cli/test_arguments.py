"""Whatever the user types ends with an answer or one clear error, never with a traceback."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simba_actors.cli.app import make_app
from tests.support.command_line import run_command
from tests.support.runs import finish, small_config
from tests.support.waiting import PATIENCE

READING = ("runs", "show", "compare", "program", "failures", "why", "lineage", "channels", "versions", "doctor")

NASTY = (
    "",
    "\0",
    "\ud800",
    "--",
    "-1",
    "9" * 40,
    "latest",
    "best",
    "../..",
    "~",
    "\x1b[31m",
    "a" * 5000,
    "\u0661",
    "1e999",
    "nan",
)

WORDS = st.one_of(
    st.sampled_from(NASTY),
    st.text(max_size=20),
    st.integers().map(str),
    st.sampled_from(("run", "0", "--json", "--all")),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("arguments") / "simba.db"
    asyncio.run(finish(small_config(path, run_id="run", max_steps=1)))
    return path


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(command=st.sampled_from(READING), words=st.lists(WORDS, max_size=4))
def test_no_argument_of_a_reading_command_is_a_traceback(store: Path, command: str, words: list[str]) -> None:
    result = run_command([command, "--store", str(store), *words])
    assert isinstance(result.exception, SystemExit | None), (result.exception, command, words)
    assert result.exit_code in (0, 1, 2)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.one_of(WORDS, st.sampled_from(READING)), max_size=3))
def test_no_first_word_is_a_traceback(words: list[str], tmp_path: Path) -> None:
    result = run_command(words, SIMBA_STORE=str(tmp_path / "none.db"))
    assert isinstance(result.exception, SystemExit | None), (result.exception, words)


@pytest.mark.parametrize("path", ["\0.db", "a" * 5000 + ".db", "/dev/null/simba.db", "/proc/self/mem", "."])
def test_a_store_that_cannot_be_used_is_one_clear_line(path: str) -> None:
    result = run_command(["runs", "--store", path])
    assert result.exit_code in (1, 2)
    assert isinstance(result.exception, SystemExit)
    if result.exit_code == 1:
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("port", ["-1", "65536", "99999999999999999999", "http"])
def test_a_port_that_does_not_exist_is_one_clear_error(port: str) -> None:
    result = run_command(["serve", "--port", port])
    assert (result.exit_code, "--port" in result.stderr) == (2, True)


def test_a_reader_that_goes_away_is_no_error(store: Path) -> None:
    command = f"{sys.executable} -m simba_actors lineage --json --store {store} | head -c 1"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, check=True, text=True, timeout=PATIENCE)
    assert ended.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_output_to_a_full_disk_is_one_line(store: Path) -> None:
    command = f"{sys.executable} -m simba_actors lineage --json --store {store} > /dev/full"
    process = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=PATIENCE)
    assert process.returncode == 1
    assert process.stderr == "simba-actors: the output can't be written: [Errno 28] No space left on device\n"


def test_each_paragraph_of_a_help_text_is_one_line_that_the_terminal_wraps() -> None:
    app = make_app()
    helps = [app.info.epilog, *(command.help for command in app.registered_commands)]
    assert [text for text in helps if text is None or "\n" in text.replace("\n\n", "")] == []


def test_a_terminal_without_unicode_gets_escapes(tmp_path: Path) -> None:
    asyncio.run(finish(small_config(tmp_path / "simba.db", run_id="größe", max_steps=1)))
    command = [sys.executable, "-m", "simba_actors", "runs", "--store", str(tmp_path / "simba.db")]
    environment = {"PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(sys.path)}
    ended = subprocess.run(command, capture_output=True, check=True, text=True, env=environment, timeout=PATIENCE)
    assert "gr\\xf6\\xdfe" in ended.stdout
