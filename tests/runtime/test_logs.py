"""Log lines never contain terminal escapes, whatever an LM wrote into them."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from simba_actors import Optimizer
from simba_actors.actors import spawn
from simba_actors.runtime.logs import get_logger, visible

ESCAPE = "\x1b[2J\u202ewiped\r"
SHOWN = "\\x1b[2J\\u202ewiped\\x0d"


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("simba_actors.tried").addHandler(handler)
    yield stream
    logging.getLogger("simba_actors.tried").removeHandler(handler)


def test_control_characters_are_written_out(output: io.StringIO) -> None:
    get_logger("simba_actors.tried").warning("the LM said %s in %d words", ESCAPE, 2)
    assert output.getvalue() == f"the LM said {SHOWN} in 2 words\n"


def test_a_traceback_has_them_written_out_too(output: io.StringIO) -> None:
    error = ValueError(ESCAPE).with_traceback(None)
    get_logger("simba_actors.tried").error("failed", exc_info=error)
    assert output.getvalue().startswith("failed\n")
    assert output.getvalue().endswith(f"ValueError: {SHOWN}\n")


def test_plain_messages_keep_their_arguments(caplog: pytest.LogCaptureFixture) -> None:
    get_logger("simba_actors.tried").warning("step %d", 3)
    assert [record.args for record in caplog.records if record.name == "simba_actors.tried"] == [(3,)]


def test_a_logger_is_filtered_once() -> None:
    assert get_logger("simba_actors.tried") is get_logger("simba_actors.tried")
    assert len(get_logger("simba_actors.tried").filters) == 1


def test_lines_and_tabs_stay() -> None:
    assert visible("two\n\tlines") == "two\n\tlines"


@pytest.mark.parametrize("text", ["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f469\u200d\U0001f467"])
def test_joiners_within_words_and_emoji_stay(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize("text", ["ad\u200dmin", "\u200d\U0001f467", "\U0001f469\u200d", "\u06cc\u200c\u200c\u06cc"])
def test_joiners_elsewhere_are_written_out(text: str) -> None:
    assert not set(visible(text)) & {"\u200c", "\u200d"}


async def test_crash_reports_of_actors_are_safe_too(caplog: pytest.LogCaptureFixture) -> None:
    assert Optimizer  # Importing it makes the kernel's logger safe: the kernel itself knows nothing of this package.
    crashed = spawn(fail_with, ESCAPE)
    await crashed.wait()
    [record] = [record for record in caplog.records if record.name == "simba_actors.actors"]
    assert "\x1b" not in logging.Formatter().format(record)


async def fail_with(message: str) -> None:
    raise ValueError(message)
