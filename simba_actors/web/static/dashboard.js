// Show times in the reader's time zone, and update the pages that follow a run or a store.
"use strict";

const live = document.getElementById("live");
const connection = document.getElementById("connection");
const FOCUSABLE = "a, button, summary, [tabindex]";
const PAUSE = 500;
const FAILED_PAUSE = 1000;
const POLL_PAUSE = 2000;

let fetching = false;
let stale = false;

function localize(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    time.title = time.textContent;
    time.textContent = moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
  }
}

// Events come in bursts: the live part is fetched at most twice a second.
async function refresh() {
  stale = true;
  if (fetching) return;
  fetching = true;
  try {
    while (stale) {
      stale = false;
      replace(await fetchLivePart());
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
  } catch {
    say("The dashboard does not answer; trying again.");
    setTimeout(refresh, FAILED_PAUSE);
  } finally {
    fetching = false;
  }
}

async function fetchLivePart() {
  const answer = await fetch(live.dataset.page + location.search);
  if (!answer.ok) throw new Error(answer.statusText);
  return answer.text();
}

// Replace the live part. What the reader has opened, scrolled and focused stays as it is.
function replace(html) {
  const opened = new Set([...live.querySelectorAll("details[open][id]")].map((details) => details.id));
  const closed = new Set([...live.querySelectorAll("details:not([open])[id]")].map((details) => details.id));
  const scrolled = live.querySelector(".events")?.scrollTop;
  const focused = [...live.querySelectorAll(FOCUSABLE)].indexOf(document.activeElement);
  live.replaceChildren(...new DOMParser().parseFromString(html, "text/html").body.childNodes);
  localize(live);
  for (const details of live.querySelectorAll("details[id]")) {
    if (opened.has(details.id)) details.open = true;
    if (closed.has(details.id)) details.open = false;
  }
  const events = live.querySelector(".events");
  if (events && scrolled) events.scrollTop = scrolled;
  if (focused >= 0) live.querySelectorAll(FOCUSABLE)[focused]?.focus({ preventScroll: true });
  if ("over" in live.dataset) say("The run is over.");
}

function follow() {
  // Each response ends after the stored events. The browser then asks again by itself, with the last event it has seen
  // in Last-Event-ID. So the end of a response is normal, but a request without a response is a failure.
  const source = new EventSource(`${live.dataset.events}?after=${live.dataset.after}`);
  let answered = false;
  source.onopen = () => { answered = true; say("Live."); };
  source.onerror = () => {
    if (!answered) say("The connection was lost; connecting again.");
    answered = false;
    // The browser gives up if the response is not a stream of events, such as the error page of a proxy.
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, FAILED_PAUSE);
  };
  source.onmessage = refresh;
  source.addEventListener("over", () => {
    source.close();
    live.dataset.over = "";
    refresh();
  });
}

// The list of runs has no stream of events: it is fetched again while the page is visible.
async function poll() {
  let shown = "";
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, POLL_PAUSE));
    if (document.hidden) continue;
    try {
      const html = await fetchLivePart();
      if (html !== shown) replace(html);
      shown = html;
      say("Live.");
    } catch {
      say("The dashboard does not answer; trying again.");
    }
  }
}

// Change the text only if it differs, since screen readers announce each change.
function say(words) {
  if (connection.textContent !== words) connection.textContent = words;
}

localize(document);
if (live && "poll" in live.dataset) poll();
else if (live && "over" in live.dataset) say("The run is over.");
else if (live) follow();
