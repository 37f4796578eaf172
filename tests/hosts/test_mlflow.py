"""A run and live calls beside MLflow's autologging, which patches DSPy."""

from __future__ import annotations

from pathlib import Path

from tests.support.hosts import run_script

SCRIPT = """
import asyncio, os, sys
from pathlib import Path

os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
import mlflow

store = Path(sys.argv[1])
mlflow.set_tracking_uri(f"file://{store.parent}/mlruns")
mlflow.dspy.autolog()

from simba_actors import LiveProgram
from tests.support.live import answer, publish, sayer
from tests.support.runs import finish, small_config

async def main():
    result = await finish(small_config(store))
    await publish(store, "one")
    live = LiveProgram(sayer(), store=store)
    return result.steps, await answer(live), live(question="?").answer

print(asyncio.run(main()), len(mlflow.search_traces(return_type="list")) > 0)
"""


def test_autologging_traces_a_run_and_live_calls_that_go_on_as_without_it(tmp_path: Path) -> None:
    assert run_script(SCRIPT, tmp_path / "simba.db").strip().splitlines()[-1] == "(2, 'one', 'one') True"
