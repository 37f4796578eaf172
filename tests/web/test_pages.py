"""The dashboard's pages, as an HTTP client gets them."""

from __future__ import annotations

import hashlib
import html
import re
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dspy
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount

from simba_actors import Channel, Optimizer, Pareto
from simba_actors.store import Reader
from simba_actors.store.queries import pool_queries
from simba_actors.store.store import Store
from simba_actors.web import channel_pages, dashboard, run_pages
from simba_actors.web.rendering import name_in, slug
from tests.support.hostile import SCRIPT, STEERING
from tests.support.large_store import RUN as LARGE_RUN
from tests.support.large_store import Shape, store_large_run
from tests.support.live import publish, saying
from tests.support.runs import finish, small_config
from tests.web.conftest import RUN

RUN_PATH = "/runs/colours~2Fof~20balls"


def digest(store: Path) -> str:
    return hashlib.sha256(store.read_bytes()).hexdigest()


def links(page: httpx.Response) -> set[str]:
    return set(re.findall(r'(?:href|src)="([^"#?]+)', page.text))


async def test_every_page_that_is_linked_to_is_there(client: httpx.AsyncClient) -> None:
    waiting, seen = {"/"}, set[str]()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        page = await client.get(path)
        assert page.status_code == 200, path
        if page.headers["content-type"].startswith("text/html"):
            waiting |= links(page) - seen
    assert any("/examples/" in path for path in seen)
    assert f"{RUN_PATH}/programs/0" in seen


async def text_of(client: httpx.AsyncClient, path: str) -> str:
    """A page of the run."""
    return (await client.get(RUN_PATH + path)).text


async def test_hostile_words_are_shown_as_text(client: httpx.AsyncClient, store: Path) -> None:
    async with await Reader.open(store) as queries:
        programs = [entry.number for entry in await queries.ask(pool_queries.pool, RUN)]
    pages = [await client.get(f"{RUN_PATH}/programs/{number}") for number in programs]
    pages += [await client.get(f"{RUN_PATH}/programs/{number}/failures?kind=all&prompts=on") for number in programs]
    pages += [await client.get(path) for path in links(await client.get(RUN_PATH)) if "/examples/" in path]
    text = "".join(page.text for page in pages)
    assert SCRIPT not in text
    assert "<img" not in text
    assert not set(STEERING) & {"\x1b", "\u202e"} & set(text)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "\\u202e" in text


async def test_a_megabyte_of_words_is_cut(client: httpx.AsyncClient) -> None:
    buckets = [path for path in links(await client.get(f"{RUN_PATH}?step=0")) if "/examples/" in path]
    pages = [await client.get(path) for path in buckets]
    assert any("980,000 characters more" in page.text for page in pages)
    assert max(len(page.content) for page in pages) < 500_000


async def test_pages_may_load_and_run_our_own_files_only(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?! src)|style=|\son\w+=", (await client.get(RUN_PATH)).text)


async def test_an_empty_store_says_how_to_fill_it(tmp_path: Path) -> None:
    await (await Store.open(tmp_path / "empty.db")).close()
    transport = httpx.ASGITransport(dashboard(tmp_path / "empty.db"))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert "has no runs yet" in (await client.get("/")).text


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/runs/nothing", 404, "has no run &#39;nothing&#39;"),
        (f"{RUN_PATH}/programs/999", 404, "has no program 999"),
        (f"{RUN_PATH}/steps/0/examples/99", 404, "no trajectories of example 99"),
        ("/channels/nobody", 404, "has no channel"),
        ("/nowhere", 404, "This page does not exist"),
    ],
)
async def test_what_is_not_there_says_so(client: httpx.AsyncClient, path: str, status: int, words: str) -> None:
    page = await client.get(path)
    assert (page.status_code, words in page.text) == (status, True)


@pytest.mark.parametrize("number", ["9" * 19, "9" * 5000])
@pytest.mark.parametrize(
    "path", ["/programs/{}", "/steps/{}/examples/0", "/steps/0/examples/{}", "?step={}", "/programs?first={}"]
)
async def test_a_number_beyond_all_bounds_is_not_there(client: httpx.AsyncClient, path: str, number: str) -> None:
    page = await client.get(RUN_PATH + path.format(number))
    assert page.status_code == (200 if "?" in path else 404)


async def test_a_stream_after_a_number_beyond_all_bounds_begins_at_the_first(client: httpx.AsyncClient) -> None:
    assert "id: 1\n" in (await client.get(f"{RUN_PATH}/events?after={'9' * 19}")).text


@pytest.mark.parametrize("path", ["/programs/one", "/steps/0/examples/-1"])
async def test_an_address_without_a_number_is_not_there(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(RUN_PATH + path)).status_code == 404


async def test_the_lineage_has_a_shape_for_each_strategy_and_a_colour_for_each_score(
    client: httpx.AsyncClient, store: Path
) -> None:
    async with await Reader.open(store) as queries:
        pool = await queries.ask(pool_queries.pool, RUN)
    programs = await text_of(client, "/programs")
    graph = re.search(r'<svg class="lineage" width="\d+" height="\d+" viewBox.*?</svg>', programs, re.DOTALL)
    assert graph is not None
    pattern = r'<title>program \d+: (\S+), (\w+)[^<]*</title>(?:<circle class="(?:finalist|winner)"[^>]*>)?'
    nodes = re.findall(pattern + r'<\w+ class="node (\w+)".*?fill="(#\w+)"', graph[0])
    assert len(nodes) == len(pool)
    assert len({(strategy, shape) for _, strategy, shape, _ in nodes}) == len({entry.strategy for entry in pool})
    assert len({(score, colour) for score, _, _, colour in nodes}) == len({entry.score for entry in pool})


async def test_the_pool_has_the_winner_first(client: httpx.AsyncClient, store: Path) -> None:
    async with await Reader.open(store) as queries:
        [winner, *_] = await queries.ask(pool_queries.ranking, RUN)
    page = await client.get(f"{RUN_PATH}/programs")
    first = re.search(r'<tr class="current"><td class="number"><a [^>]*>(\d+)</a></td>', page.text)
    assert first is not None
    assert int(first[1]) == winner
    assert page.text.index("Finalists") < page.text.index(first[0])


async def test_a_page_that_breaks_says_where_to_look(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(db: Any, run_id: str) -> list[int]:
        raise ZeroDivisionError

    monkeypatch.setattr(pool_queries, "ranking", fail)
    transport = httpx.ASGITransport(dashboard(store), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        page = await client.get(f"{RUN_PATH}/programs")
    assert (page.status_code, "The log of its process has the error" in page.text) == (500, True)
    assert "ZeroDivisionError" not in page.text


async def test_a_form_that_makes_no_sense_is_refused_with_its_reason(store: Path) -> None:
    transport = httpx.ASGITransport(dashboard(store, actions=True))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        page = await client.post("/publish", data={"channel": "bot", "run": RUN, "program": "best"})
    assert (page.status_code, "must be a whole number" in page.text) == (400, True)


@pytest.mark.parametrize("name", [".", "..", "a.b", "~2E"])
def test_a_name_is_a_part_of_a_path_that_browsers_leave_as_it_is(name: str) -> None:
    address = httpx.URL("http://localhost/channels/").join(slug(name))
    assert name_read_from(address.path.removeprefix("/channels/")) == name


def name_read_from(part: str) -> str:
    return name_in(Request({"type": "http", "path_params": {"channel": part}}), "channel")


async def test_what_was_published_after_the_page_was_shown_stays(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "simba.db"
    shutil.copy(store, copy)
    transport = httpx.ASGITransport(dashboard(copy, actions=True))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        await client.post("/publish", data={**await form(client, 0), "channel": "bot"})
        before = await form(client, 1)
        after = await client.post("/publish", data={**await form(client, 2), "channel": "bot"})
        conflict = await client.post("/publish", data={**before, "channel": "bot"})
        another = await client.post("/publish", data={**before, "channel": "another"})
    assert [answer.status_code for answer in (after, conflict, another)] == [303, 409, 303]
    assert "is at version 2" in conflict.text


async def form(client: httpx.AsyncClient, number: int) -> dict[str, str]:
    """The fields of the form that publishes a program, as its page fills them."""
    page = await client.get(f"{RUN_PATH}/programs/{number}")
    fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page.text)
    return {html.unescape(name): html.unescape(value) for name, value in fields}


@pytest.mark.parametrize("content", [b"channel=\xff", b"channel=%ff", b"program=" + b"9" * 5000])
async def test_a_form_that_no_browser_sends_is_refused(store: Path, content: bytes) -> None:
    transport = httpx.ASGITransport(dashboard(store, actions=True))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.post("/publish", content=content)).status_code == 400


async def test_a_store_that_is_gone_is_named_with_the_remedy(tmp_path: Path) -> None:
    transport = httpx.ASGITransport(dashboard(tmp_path / "gone.db"))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        page = await client.get("/")
    assert (page.status_code, "does not exist: check the path" in page.text) == (503, True)


async def test_mounted_in_another_application_its_links_stay_within(store: Path) -> None:
    host = Starlette(routes=[Mount("/simba", dashboard(store))])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(host), base_url="http://127.0.0.1") as client:
        page = await client.get("/simba/")
        assert all(path.startswith("/simba/") for path in links(page))
        assert (await client.get(f"/simba{RUN_PATH}/programs/1")).status_code == 200


async def test_without_actions_nothing_can_be_changed(client: httpx.AsyncClient) -> None:
    assert 'method="post"' not in (await client.get(f"{RUN_PATH}/programs/1")).text
    assert (await client.post("/publish", data={"channel": "x"})).status_code == 404


async def test_looking_leaves_the_store_as_it_is(client: httpx.AsyncClient, store: Path) -> None:
    before = digest(store)
    for path in ("/", RUN_PATH, f"{RUN_PATH}/programs", f"{RUN_PATH}/programs/1", f"{RUN_PATH}/programs/1/failures"):
        await client.get(path)
    assert digest(store) == before


async def test_a_run_begins_with_its_result(client: httpx.AsyncClient) -> None:
    text = await text_of(client, "")
    order = [text.index(words) for words in ('aria-label="Result"', "Score by step", "What went wrong", "<h2>Steps")]
    assert order == sorted(order)


async def test_every_score_comes_with_an_interval(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db", run_id="perfect", metric=lambda example, prediction: 1.0, max_steps=1)
    await finish(config)
    async with browsing(Path(config.store)) as client:
        text = (await client.get("/runs/perfect")).text
    assert "95 % interval 0." in text
    assert "± 0.000" not in text


async def test_every_point_of_a_chart_can_be_focused_and_has_words(client: httpx.AsyncClient) -> None:
    text = await text_of(client, "")
    points = re.findall(r'<g class="point[^>]*>', text)
    assert points
    assert all('tabindex="0"' in point and re.search('aria-label="[^"]+"', point) for point in points)


async def test_charts_have_titled_axes(client: httpx.AsyncClient) -> None:
    text = await text_of(client, "")
    for title in ("step", "LM calls", "score"):
        assert re.search(f'<text class="title"[^>]*>{title}</text>', text)


async def test_failures_have_the_students_run_on_the_same_example(client: httpx.AsyncClient) -> None:
    text = await text_of(client, "/programs/1/failures?kind=all")
    assert text.count("<h3>Program 1</h3>") == text.count("<h3>The student</h3>") > 0
    questions_asked = re.findall(r"What is the colour of ball \d", text)
    assert questions_asked[::2] == questions_asked[1::2]


async def test_failures_say_what_was_expected(client: httpx.AsyncClient) -> None:
    assert re.search(r"<h4>Expected</h4><dl><dt>answer</dt>", await text_of(client, "/programs/0/failures"))


async def test_failures_have_the_prompts_as_sent_if_asked(client: httpx.AsyncClient) -> None:
    assert "Prompt as sent" not in await text_of(client, "/programs/0/failures")
    text = await text_of(client, "/programs/0/failures?prompts=on")
    assert re.search(r"Prompt as sent: self.*<h4>system</h4>.*<h4>user</h4>", text, re.DOTALL)


async def test_failures_are_filtered_by_kind_score_and_text(client: httpx.AsyncClient) -> None:
    def scores(text: str) -> set[str]:
        return set(re.findall(r"Score <strong>([\d.]+)", text))

    assert scores(await text_of(client, "/programs/0/failures?kind=all")) == {"0.000", "1.000"}
    assert scores(await text_of(client, "/programs/0/failures")) == {"0.000"}
    assert scores(await text_of(client, "/programs/0/failures?kind=all&at_most=0.5")) == {"0.000"}
    assert "No rollouts match" in await text_of(client, "/programs/0/failures?kind=failed")
    found = await text_of(client, "/programs/0/failures?kind=all&text=BALL 2")
    assert set(re.findall(r"colour of ball (\d)", found)) == {"2"}


@pytest.mark.parametrize("query", ["at_most=nan", "at_most=x", "kind=no", "first=-1", "beside=parent", "text=%00"])
async def test_a_filter_that_makes_no_sense_is_no_error(client: httpx.AsyncClient, query: str) -> None:
    assert (await client.get(f"{RUN_PATH}/programs/0/failures?{query}")).status_code == 200


async def test_two_runs_are_compared(tmp_path: Path) -> None:
    for run_id, seed in (("one", 1), ("two", 2)):
        config = small_config(tmp_path / "simba.db", run_id=run_id, seed=seed, max_steps=1)
        await finish(config)
    async with browsing(tmp_path / "simba.db") as client:
        text = (await client.get("/compare?a=one&b=two")).text
        assert (await client.get("/compare?a=nothing")).status_code == 200
    assert re.search(r'<th scope="row">seed</th><td[^>]*>1</td><td[^>]*>2</td>', text)
    assert '<th scope="row">bsize</th>' not in text


async def test_two_versions_of_a_channel_are_compared(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "simba.db"
    shutil.copy(store, copy)
    async with await Reader.open(store) as queries:
        student, *others = await queries.ask(pool_queries.pool, RUN)
        other = next(entry.number for entry in others if entry.digest != student.digest)
    async with browsing(copy, actions=True) as client:
        for number in (0, other):
            await client.post("/publish", data={**await form(client, number), "channel": "bot"})
        text = (await client.get("/channels/bot?before=1&after=2")).text
        assert (await client.get("/channels/bot?before=1&after=9")).status_code == 404
    assert re.search(r'<span class="added">\+', text)


async def test_the_versions_of_a_channel_are_paged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_pages, "ROWS_A_PAGE", 2)
    await publish(tmp_path / "simba.db", "one", "two", "three")
    async with browsing(tmp_path / "simba.db") as client:
        first = (await client.get("/channels/default")).text
        (older,) = re.findall(r'<a rel="next" href="([^"]+)"', first)
        second = (await client.get(f"/channels/default{older}")).text
    assert [word in first for word in ("say three", "say two", "say one")] == [True, True, False]
    assert [word in second for word in ("say three", "say two", "say one")] == [False, False, True]
    assert 'rel="prev"' in second


@pytest.mark.parametrize("time", [253_402_300_800.0, 1e300, -1e12], ids=["year 10000", "far", "before year 1"])
async def test_a_channel_is_shown_whatever_the_clock_of_the_publisher_said(tmp_path: Path, time: float) -> None:
    async with await Channel.open(tmp_path / "simba.db", "bot", clock=lambda: time) as channel:
        await channel.publish(saying("one"), reason="say one")
    async with browsing(tmp_path / "simba.db") as client:
        assert "say one" in (await client.get("/channels/bot")).text


async def test_objectives_are_shown_with_the_pareto_front(tmp_path: Path) -> None:
    def metric(example: Any, prediction: Any) -> Any:
        right = example.answer == prediction.answer
        return dspy.Prediction(right=float(right), short=1 / len(prediction.answer))

    config = small_config(
        tmp_path / "simba.db", run_id="both", metric=metric, objectives=Pareto(["right", "short"]), policy="adaptive"
    )
    await finish(config)
    async with browsing(Path(config.store)) as client:
        text = (await client.get("/runs/both")).text
    assert "Pareto front" in text
    assert re.search(r"<bdi>right</bdi></th><th[^>]*><bdi>short</bdi></th>", text)
    assert re.search('<text class="title"[^>]*>short</text>', text)


async def test_times_can_be_shown_in_the_readers_zone(client: httpx.AsyncClient) -> None:
    assert re.search(r'<time datetime="\d{4}-\d\d-\d\dT[\d:.]+Z">[\d :-]+ UTC</time>', (await client.get("/")).text)


async def test_a_run_without_steps_has_a_page(tmp_path: Path) -> None:
    async with await Optimizer.start(small_config(tmp_path / "simba.db", run_id="new")) as optimizer:
        await optimizer.pause()
    async with browsing(tmp_path / "simba.db") as client:
        for path in ("/", "/runs/new", "/runs/new/programs", "/runs/new/live", "/compare?a=new&b=new"):
            assert (await client.get(path)).status_code == 200, path


async def test_a_run_of_many_steps_has_a_page_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_pages, "STEPS_LISTED", 4)
    monkeypatch.setattr(run_pages, "MOST_POINTS", 6)
    await store_large_run(tmp_path / "simba.db", Shape(30, candidates=1, rows=2, copies=1, examples=10))
    async with browsing(tmp_path / "simba.db") as client:
        text = (await client.get(f"/runs/{LARGE_RUN}")).text
    assert re.findall(r'<tr><td class="number">(\d+)</td><td class="number">0', text) == ["27", "28", "29", "30"]
    assert "26 earlier steps are not listed." in text
    assert set(re.findall(r"step (\d+), samples", text)) == {"1", "6", "11", "16", "21", "26", "30"}


@asynccontextmanager
async def browsing(store: Path, **options: Any) -> AsyncGenerator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(dashboard(store, **options))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


async def test_a_bucket_of_one_trajectory_shows_it_once(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db", run_id="one", num_candidates=1, max_steps=1)
    await finish(config)
    async with browsing(Path(config.store)) as client:
        (path, *_) = (path for path in links(await client.get("/runs/one?step=0")) if "/examples/" in path)
        text = (await client.get(path)).text
    assert (text.count("<h2>The only trajectory"), text.count("<h2>Best")) == (1, 0)
