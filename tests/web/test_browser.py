"""The dashboard in a real browser, served over real HTTP. Skipped where there is no Chromium."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dspy
import pytest
import pytest_asyncio
import uvicorn

from simba_actors import Optimizer, Pareto
from simba_actors.publishing.channel import Channel, Source
from simba_actors.web import dashboard
from simba_actors.web.rendering import slug
from tests.support.hosts import free_port
from tests.support.quiz import quiz_script
from tests.support.runs import finish, small_config
from tests.support.scripted_lm import ScriptedLM
from tests.support.waiting import PATIENCE, until

playwright_api = pytest.importorskip("playwright.async_api", reason="playwright is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

REMOTE = "box.internal"
"""A host that the browser does not take for its own machine: plain HTTP from there is no secure context."""

WIDER_THAN_ITS_PLACE = """[document.documentElement, ...document.querySelectorAll('.wide:not(.graph), pre')]
    .filter(each => each.scrollWidth > each.clientWidth).map(each => `${each.tagName} ${each.scrollWidth}`)"""
"""The page, its tables and its texts, as far as they scroll sideways."""

REMOTE_HOST = f"--host-resolver-rules=MAP {REMOTE} 127.0.0.1"

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
    pytest.mark.asyncio(loop_scope="module"),
]

playwright_api.expect.set_options(timeout=1000 * PATIENCE)


@asynccontextmanager
async def served(store: Path, port: int = 0, token: str | None = None) -> AsyncGenerator[str]:
    """Serve the store's dashboard, with actions, and yield its address."""
    app = dashboard(store, actions=True, token=token)
    config = uvicorn.Config(app, port=port, log_level="critical")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    try:
        await until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await asyncio.wait_for(serving, PATIENCE)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Any]:
    async with playwright_api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", REMOTE_HOST])
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def browser_page(browser: Any) -> AsyncIterator[Any]:
    """Yield a page that shares nothing with those of other tests. `complaints` are the errors in its console."""
    page = await browser.new_page()
    page.set_default_timeout(1000 * PATIENCE)
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    yield page
    await page.close()


async def test_a_run_is_watched_to_its_end_and_its_lineage_opened(tmp_path: Path, browser_page: Any) -> None:
    expect = playwright_api.expect
    config = small_config(tmp_path / "simba.db", run_id="live", lm=ScriptedLM(quiz_script, latency=0.02))
    async with await Optimizer.start(config) as optimizer, served(tmp_path / "simba.db") as address:
        await optimizer.pause()
        await browser_page.goto(f"{address}/")
        await browser_page.get_by_role("link", name="live").click()
        await expect(browser_page.locator(".badge").first).to_have_text("paused")
        await optimizer.resume()
        await optimizer.result(PATIENCE)
        await expect(browser_page.locator(".badge").first).to_have_text("finished")
        await expect(browser_page.locator("#connection")).to_have_text("The run is over.")
        await browser_page.get_by_text("Events", exact=True).click()
        await expect(browser_page.locator(".events li").first).to_contain_text("RunFinished")
        await expect(browser_page.locator("[data-width=roomy]:not(.standings) circle.best:visible")).to_have_count(5)
        await browser_page.goto(f"{address}/runs/live/programs")
        await browser_page.locator("svg.lineage a").nth(1).click()
        await expect(browser_page.locator("h1")).to_have_text("Program 1")
        await browser_page.go_back()
        await expect(browser_page.locator("h1")).to_have_text("Programs")
        assert browser_page.complaints == []


async def test_a_run_is_followed_on_after_the_connection_was_lost(tmp_path: Path, browser_page: Any) -> None:
    expect = playwright_api.expect
    store = tmp_path / "simba.db"
    port = free_port()
    async with await Optimizer.start(small_config(store, run_id="live")) as optimizer:
        await optimizer.pause()
        async with served(store, port) as address:
            await browser_page.goto(f"{address}/runs/live")
            await expect(browser_page.locator("#connection")).to_have_text("Live.")
        await expect(browser_page.locator("#connection")).to_contain_text("The connection was lost")
        await optimizer.resume()
        await optimizer.result(PATIENCE)
        async with served(store, port):
            await expect(browser_page.locator("#connection")).to_have_text("The run is over.")
            await expect(browser_page.locator(".badge").first).to_have_text("finished")
            await expect(browser_page.locator(".events li").first).to_contain_text("RunFinished")


async def test_a_run_is_followed_on_after_a_proxy_answered_with_an_error(tmp_path: Path, browser_page: Any) -> None:
    expect = playwright_api.expect
    store = tmp_path / "simba.db"
    async with await Optimizer.start(small_config(store, run_id="live")) as optimizer, served(store) as address:
        await optimizer.pause()
        await browser_page.route("**/events*", lambda route: route.fulfill(status=502, body="Bad gateway"))
        await browser_page.goto(f"{address}/runs/live")
        await expect(browser_page.locator("#connection")).to_contain_text("The connection was lost")
        await browser_page.unroute("**/events*")
        await expect(browser_page.locator("#connection")).to_have_text("Live.")


async def test_a_page_that_could_not_be_had_is_asked_for_again(tmp_path: Path, browser_page: Any) -> None:
    expect = playwright_api.expect
    store = tmp_path / "simba.db"
    async with await Optimizer.start(small_config(store, run_id="live")) as optimizer, served(store) as address:
        await optimizer.pause()
        await browser_page.goto(f"{address}/runs/live")
        await browser_page.route("**/runs/live/live", lambda route: route.fulfill(status=503, body="Locked"))
        await optimizer.resume()
        await optimizer.result(PATIENCE)
        await expect(browser_page.locator("#connection")).to_contain_text("The dashboard does not answer")
        await browser_page.unroute("**/runs/live/live")
        await expect(browser_page.locator(".badge").first).to_have_text("finished")
        await expect(browser_page.locator("#connection")).to_have_text("The run is over.")


async def tab_to(page: Any, condition: str) -> None:
    """Presses Tab until the condition on the focused element holds."""
    for _ in range(100):
        await page.keyboard.press("Tab")
        if await page.evaluate(condition):
            return
    raise AssertionError(f"Tab never led to where {condition}")


async def test_everything_is_reached_with_the_keyboard(store: Path, browser_page: Any) -> None:
    expect = playwright_api.expect
    async with served(store) as address:
        await browser_page.goto(f"{address}/")
        await browser_page.keyboard.press("Tab")
        await expect(browser_page.get_by_text("Skip to content")).to_be_focused()
        await browser_page.keyboard.press("Enter")
        await tab_to(browser_page, "document.activeElement.textContent === 'colours/of balls'")
        await browser_page.keyboard.press("Enter")
        await expect(browser_page.locator(".badge").first).to_have_text("finished")
        await browser_page.goto(f"{address}/runs/colours~2Fof~20balls/programs")
        await tab_to(browser_page, "document.activeElement.closest('svg.lineage a') !== null")
        await browser_page.keyboard.press("Enter")
        await expect(browser_page.locator("h1")).to_have_text("Program 0")


async def test_a_version_is_published_and_rolled_back(store: Path, tmp_path: Path, browser_page: Any) -> None:
    expect = playwright_api.expect
    copy = tmp_path / "simba.db"
    shutil.copy(store, copy)
    async with served(copy) as address:
        for number in (0, 1):
            await browser_page.goto(f"{address}/")
            await browser_page.locator("tbody tr td:nth-child(4) a").first.click()
            await browser_page.locator("svg.lineage a").nth(number).click()
            await browser_page.get_by_label("Channel").fill("bot")
            await browser_page.get_by_role("button", name=f"Publish program {number}").click()
            await expect(browser_page.locator("h1")).to_have_text("bot")
        await browser_page.get_by_role("button", name="Bring back 1").click()
        await expect(browser_page.locator("tr.current td").first).to_have_text("3")
        await expect(browser_page.locator("tr.current td").nth(1)).to_have_text("rollback of version 1")
        assert browser_page.complaints == []


async def test_a_version_is_published_over_plain_http_from_another_machine(
    store: Path, tmp_path: Path, browser_page: Any
) -> None:
    expect = playwright_api.expect
    copy = tmp_path / "simba.db"
    shutil.copy(store, copy)
    async with served(copy, token="shown-once") as address:  # noqa: S106 - of this test alone
        address = address.replace("127.0.0.1", REMOTE)
        await browser_page.goto(f"{address}/?token=shown-once")
        await browser_page.goto(f"{address}/runs/colours~2Fof~20balls/programs/0")
        await browser_page.get_by_label("Channel").fill("bot")
        await browser_page.get_by_role("button", name="Publish program 0").click()
        await expect(browser_page.locator("h1")).to_have_text("bot")


async def test_hostile_words_run_no_script(store: Path, browser_page: Any) -> None:
    alerts: list[str] = []
    browser_page.on("dialog", lambda dialog: alerts.append(dialog.message))
    async with served(store) as address:
        for path in ("", "/programs", "/programs/1", "/programs/3", "/programs/5"):
            await browser_page.goto(f"{address}/runs/colours~2Fof~20balls{path}", wait_until="load")
        assert (alerts, browser_page.complaints) == ([], [])


async def test_no_page_and_no_table_scrolls_sideways(tmp_path: Path, browser_page: Any) -> None:
    names = "N" * 100, "\u0646\u0635" * 25, "<b>\U0001f525</b>" * 9
    run_id, long_word = "R" * 200, "w" * 200
    field, goals = "f" * 100, ["a" * 100, "b" * 100]
    signature: Any = dspy.Signature
    examples = [dspy.Example({field: f"{long_word} {n}"}).with_inputs(field) for n in range(4)]

    def metric(example: dspy.Example, prediction: dspy.Prediction) -> dspy.Prediction:
        scores = {goal: len(prediction.answer) % (2 + n) / 2 for n, goal in enumerate(goals)}
        return dspy.Prediction(**scores, feedback=long_word)

    config = small_config(
        tmp_path / "simba.db",
        student=dspy.Predict(signature(f"{field} -> answer", long_word)),
        metric=metric,
        objectives=Pareto(goals),
        trainset=examples,
        run_id=run_id,
        policy="adaptive",
        max_steps=1,
    )
    await finish(config)
    for name in names:
        async with await Channel.open(config.store, name) as channel:
            await channel.publish(Source(run_id, 0), reason=long_word, by=long_word)
            await channel.publish(Source(run_id, 1), reason=names[2], by=names[1])
    run = f"/runs/{run_id}"
    paths = ["/", run, f"{run}/programs", f"{run}/programs/1", f"{run}/programs/1/failures?kind=all&prompts=on"]
    paths += [f"{run}/steps/0/examples/0", f"/compare?a={run_id}&b={run_id}", f"/runs/{long_word}"]
    paths += [f"/channels/{slug(name)}?before=1&after=2" for name in names]
    async with served(tmp_path / "simba.db") as address:
        for path in paths:
            await browser_page.goto(f"{address}{path}")
            await browser_page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
            for width in (1280, 768, 390):
                await browser_page.set_viewport_size({"width": width, "height": 800})
                assert await browser_page.evaluate(WIDER_THAN_ITS_PLACE) == [], (path, width)


async def test_a_point_of_a_chart_tells_its_value_when_it_is_focused(store: Path, browser_page: Any) -> None:
    async with served(store) as address:
        await browser_page.goto(f"{address}/runs/colours~2Fof~20balls")
        point = browser_page.locator("[data-width=roomy]:not(.standings) .point.best").first
        await playwright_api.expect(point.locator(".tip")).to_be_hidden()
        await tab_to(browser_page, "document.activeElement.matches('[data-width=roomy]:not(.standings) .point.best')")
        await playwright_api.expect(point.locator(".tip")).to_be_visible()
        await playwright_api.expect(point.locator(".tip")).to_contain_text("step 1: ")


async def test_what_a_reader_has_opened_stays_open_while_the_run_goes_on(tmp_path: Path, browser_page: Any) -> None:
    expect = playwright_api.expect
    async with await Optimizer.start(small_config(tmp_path / "simba.db", run_id="live")) as optimizer:
        await optimizer.pause()
        async with served(tmp_path / "simba.db") as address:
            await browser_page.goto(f"{address}/runs/live")
            await browser_page.get_by_text("Actors", exact=True).click()
            await optimizer.resume()
            await optimizer.result(PATIENCE)
            await expect(browser_page.locator(".badge").first).to_have_text("finished")
            await expect(browser_page.locator("#actors table")).to_be_visible()
            await expect(browser_page.locator("#events ol")).to_be_hidden()


async def test_a_button_keeps_the_focus_while_the_run_goes_on(tmp_path: Path, browser_page: Any) -> None:
    async with await Optimizer.start(small_config(tmp_path / "simba.db", run_id="live")) as optimizer:
        await optimizer.pause("tea")
        async with served(tmp_path / "simba.db") as address:
            await browser_page.goto(f"{address}/runs/live")
            stop = browser_page.get_by_role("button", name="Stop")
            await stop.focus()
            await optimizer.pause("lunch")
            await playwright_api.expect(browser_page.locator(".notice")).to_have_text("lunch")
            await playwright_api.expect(stop).to_be_focused()


async def test_the_list_of_runs_is_live(tmp_path: Path, browser_page: Any) -> None:
    expect = playwright_api.expect
    async with await Optimizer.start(small_config(tmp_path / "simba.db", run_id="live")) as optimizer:
        await optimizer.pause()
        async with served(tmp_path / "simba.db") as address:
            await browser_page.goto(f"{address}/")
            await expect(browser_page.locator(".badge").first).to_have_text("paused")
            await optimizer.resume()
            await optimizer.result(PATIENCE)
            await expect(browser_page.locator(".badge").first).to_have_text("finished")


async def test_times_are_shown_in_the_readers_zone(store: Path, browser_page: Any) -> None:
    async with served(store) as address:
        context = await browser_page.context.browser.new_context(timezone_id="Asia/Tokyo", locale="de-DE")
        page = await context.new_page()
        await page.goto(f"{address}/")
        time = page.locator("time").first
        shown, moment = await time.text_content(), await time.get_attribute("datetime")
        expected = await page.evaluate(
            "m => new Date(m).toLocaleString('de-DE', "
            "{dateStyle: 'medium', timeStyle: 'medium', timeZone: 'Asia/Tokyo'})",
            moment,
        )
        await context.close()
    assert shown == expected
