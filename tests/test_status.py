"""The status of a run."""

from __future__ import annotations

import dataclasses
import sqlite3
from contextlib import closing
from pathlib import Path

from simba_actors import Optimizer
from simba_actors.store import Reader
from tests.support.runs import small_config
from tests.support.waiting import PATIENCE


async def test_a_status_reads_no_progress_but_that_of_the_last_step(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db", run_id="run")
    async with await Optimizer.start(config) as optimizer:
        await optimizer.result(PATIENCE)
        async with await Reader.open(config.store) as reader:
            whole = await reader.progress("run")
        with closing(sqlite3.connect(config.store, isolation_level=None)) as db:
            db.execute("UPDATE steps SET progress = 'not JSON' WHERE step = 0")
        last = (await optimizer.status()).progress
    assert whole is not None
    assert last is not None
    assert (last.step, dataclasses.asdict(last)) == (2, dataclasses.asdict(whole))
