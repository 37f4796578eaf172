"""How long the dashboard's pages take with 10,000 programs and 1,000,000 rollouts. The bar is 300 ms.

python -m tests.benchmarks.dashboard [--programs 10000]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import httpx

from simba_actors.web import dashboard
from tests.support.large_store import RUN, Shape, store_large_run

BAR_SECONDS = 0.3
CANDIDATES = 7
EXAMPLES = 500
ATTEMPTS = 8


def shape_of(programs: int) -> Shape:
    """Return the shape of a run with at least that many programs, and 100 rollouts for each."""
    return Shape(-(-programs // CANDIDATES), CANDIDATES, rows=54, copies=6, examples=EXAMPLES)


async def seconds_of_pages(path: Path, programs: int) -> dict[str, float]:
    """Return the best time of several attempts, since other work on this machine is not the page's time."""
    middle = programs // 2
    step = (middle - 1) // CANDIDATES
    pages = {
        "runs": "/",
        "run": f"/runs/{RUN}",
        "run, live part": f"/runs/{RUN}/live",
        "run, a step's buckets": f"/runs/{RUN}?step={step}",
        "pool": f"/runs/{RUN}/programs",
        "pool, a later page": f"/runs/{RUN}/programs?order=number&first={middle}",
        "the student": f"/runs/{RUN}/programs/0",
        "a program": f"/runs/{RUN}/programs/{middle}",
        "its failures": f"/runs/{RUN}/programs/{middle}/failures",
        "the student's failures": f"/runs/{RUN}/programs/0/failures",
        "a bucket": f"/runs/{RUN}/steps/{step}/examples/{step % EXAMPLES}",
    }
    seconds: dict[str, float] = {}
    transport = httpx.ASGITransport(dashboard(path))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        for name, address in pages.items():
            times: list[float] = []
            for _ in range(ATTEMPTS):
                started = time.perf_counter()
                answer = await client.get(address)
                times.append(time.perf_counter() - started)
                assert answer.status_code == 200, answer.text
            seconds[name] = min(times)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=10_000)
    programs = parser.parse_args().programs
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "large.db"
        rollouts = asyncio.run(store_large_run(path, shape_of(programs)))
        print(f"{programs:,} programs, {rollouts:,} rollouts, {path.stat().st_size / 1e6:,.0f} MB")
        seconds = asyncio.run(seconds_of_pages(path, programs))
    for name, spent in seconds.items():
        print(f"{name:24} {spent * 1000:6.0f} ms  {spent / BAR_SECONDS:5.2f} of the bar")
    worst = max(seconds.values())
    print("pass" if worst < BAR_SECONDS else "FAIL", f"worst {worst * 1000:.0f} ms, bar {BAR_SECONDS * 1000:.0f} ms")


if __name__ == "__main__":
    main()
