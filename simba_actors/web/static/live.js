// Follows a run: each event that comes in is a reason to fetch the page's live part again, at most twice a second.
"use strict";

const live = document.getElementById("live");
const connection = document.getElementById("connection");
const PAUSE = 500;

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
      if (answer.ok) replace(await answer.text());
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
  } catch {
    connection.textContent = "The dashboard does not answer; trying again.";
  } finally {
    fetching = false;
  }
}

function replace(html) {
  const scrolled = live.querySelector(".events")?.scrollTop;
  live.replaceChildren(...new DOMParser().parseFromString(html, "text/html").body.childNodes);
  const events = live.querySelector(".events");
  if (events && scrolled) events.scrollTop = scrolled;
}

function follow() {
  // The browser connects again by itself, and says with Last-Event-ID what it has heard.
  const source = new EventSource(`${live.dataset.events}?after=${live.dataset.after}`);
  source.onopen = () => { connection.textContent = "Live."; };
  source.onerror = () => { connection.textContent = "The connection was lost; connecting again."; };
  source.onmessage = refresh;
  source.addEventListener("over", () => {
    source.close();
    connection.textContent = "The run is over.";
    refresh();
  });
}

if ("over" in live.dataset) connection.textContent = "The run is over.";
else follow();
