// Follows a run: each event that comes in is a reason to fetch the page's live part again, at most twice a second.
"use strict";

const live = document.getElementById("live");
const connection = document.getElementById("connection");
const PAUSE = 500;
const FAILED_PAUSE = 1000;

let fetching = false;
let stale = false;

async function refresh() {
  stale = true;
  if (fetching) return;
  fetching = true;
  try {
    while (stale) {
      stale = false;
      const answer = await fetch(live.dataset.page + location.search);
      if (!answer.ok) throw new Error(answer.statusText);
      replace(await answer.text());
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
  } catch {
    say("The dashboard does not answer; trying again.");
    setTimeout(refresh, FAILED_PAUSE);
  } finally {
    fetching = false;
  }
}

function replace(html) {
  const scrolled = live.querySelector(".events")?.scrollTop;
  live.replaceChildren(...new DOMParser().parseFromString(html, "text/html").body.childNodes);
  const events = live.querySelector(".events");
  if (events && scrolled) events.scrollTop = scrolled;
  if ("over" in live.dataset) say("The run is over.");
}

function follow() {
  // Each answer ends with the events that there are. The browser asks again by itself, and says with Last-Event-ID
  // what it has heard. So the end of an answer is no loss; the next one that does not come is.
  const source = new EventSource(`${live.dataset.events}?after=${live.dataset.after}`);
  let answered = false;
  source.onopen = () => { answered = true; say("Live."); };
  source.onerror = () => {
    if (!answered) say("The connection was lost; connecting again.");
    answered = false;
    // It gives up where the answer is no stream, as the error page of a proxy in front.
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, FAILED_PAUSE);
  };
  source.onmessage = refresh;
  source.addEventListener("over", () => {
    source.close();
    live.dataset.over = "";
    refresh();
  });
}

// Only what is new is written: screen readers tell each change.
function say(words) {
  if (connection.textContent !== words) connection.textContent = words;
}

if ("over" in live.dataset) say("The run is over.");
else follow();
