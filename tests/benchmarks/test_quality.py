"""The comparison of optimizers runs. Only a full run says how they compare."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.benchmarks.contenders import CONTENDERS

ROOT = Path(__file__).parents[2]


def test_the_short_form_has_a_row_for_each_contender() -> None:
    command = [sys.executable, "-m", "tests.benchmarks.quality", "--short", "--processes", "1"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    rows = [line for line in ended.stdout.splitlines() if line.startswith(tuple(CONTENDERS))]
    assert {row.rsplit(maxsplit=7)[0] for row in rows} >= set(CONTENDERS), ended.stderr
