"""Live updates."""

from __future__ import annotations

import re

import httpx

from tests.web.test_pages import RUN_PATH


def ids(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"^id: (\d+)$", text, re.MULTILINE)]


async def test_the_stream_replays_all_events_and_says_when_the_run_is_over(client: httpx.AsyncClient) -> None:
    answer = await client.get(f"{RUN_PATH}/events")
    numbers = ids(answer.text)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert numbers == list(range(1, len(numbers) + 1))
    assert answer.text.endswith("event: over\ndata:\n\n")


async def test_after_a_lost_connection_it_goes_on_without_a_gap(client: httpx.AsyncClient) -> None:
    whole = ids((await client.get(f"{RUN_PATH}/events")).text)
    resumed = await client.get(f"{RUN_PATH}/events?after=2", headers={"last-event-id": "7"})
    assert ids(resumed.text) == whole[7:]


async def test_each_event_is_one_line(client: httpx.AsyncClient) -> None:
    text = (await client.get(f"{RUN_PATH}/events")).text
    assert all(re.fullmatch(r"id: \d+\ndata: .+|event: over\ndata:", part) for part in text.strip().split("\n\n"))
