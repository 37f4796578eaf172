"""The examples, run as a reader would, on the local model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.waiting import limited

EXAMPLES = Path(__file__).parent.parent.parent / "examples"

LIMIT = 600.0
"""Seconds after which an example has failed. The local model takes most of the time."""


def start(name: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    environment = {**os.environ, "LOCAL_MODEL_THREADS": "1"}  # Other tests run at the same time.
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_drop_in_prints_its_candidates_best_first() -> None:
    with start("drop_in.py") as process, limited(process, LIMIT):
        output, _ = process.communicate()
    scores = [float(score) for score in re.findall(r"^([\d.]+) with \d+ demos$", output, re.MULTILINE)]
    assert process.returncode == 0
    assert scores
    assert scores == sorted(scores, reverse=True)


def test_resume_continues_after_a_kill(tmp_path: Path) -> None:
    store = tmp_path / "resume.db"
    with start("resume.py", "--store", store) as process, limited(process, LIMIT):
        assert process.stdout is not None
        for line in process.stdout:
            if line == "step 1 is over\n":
                process.kill()
                break
    with start("resume.py", "--store", store) as process, limited(process, LIMIT):
        output, _ = process.communicate()
    assert process.returncode == 0
    assert re.search(r"[1-9]\d* rollouts and [1-9] steps are in the store", output)
    assert "finished with" in output


def test_a_local_model_that_was_never_asked_stops() -> None:
    stopped = [sys.executable, "-c", "from local_model import serve\nwith serve(): pass"]
    assert subprocess.run(stopped, cwd=EXAMPLES, timeout=LIMIT, check=False).returncode == 0
