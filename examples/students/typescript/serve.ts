// Serves the program to its users with what was optimized: it follows a channel of a store that
// `simba-actors serve --channels` makes available, and changes within a second of a publication.
//
//     STORE=http://127.0.0.1:8642 CHANNEL=default PORT=8000 npx tsx serve.ts
//     curl -d '{"question": "What is 1 + 1?"}' http://127.0.0.1:8000

import { createServer } from "node:http";
import { setTimeout as pause } from "node:timers/promises";
import { predictors, run, Trace, type Fields, type State } from "./program.js";

type States = Record<string, State>;

/** Follows a channel. A request never waits for it: until it has read anything, the program's own states serve. */
class Follower {
  version = 0;
  /** READY, or STALE while the store can't be reached and the last known states serve. */
  state = "STARTING";
  private current: States = Object.fromEntries(
    Object.entries(predictors).map(([name, { instructions }]) => [name, { instructions }]),
  );
  private canary?: { share: number; states: States };
  private etag = "";

  constructor(private channel: string, private headers: Record<string, string>) {}

  /** What the next request runs with. */
  states() {
    return this.canary && Math.random() < this.canary.share ? this.canary.states : this.current;
  }

  async follow(): Promise<never> {
    for (;;) {
      try {
        await this.get();
        this.state = "READY";
        // The watch ends when something has changed, or after some seconds. It is a hint: Get has the truth.
        await (await this.fetch(`/watch?etag=${this.etag}`)).text();
        await pause(100);
      } catch {
        this.state = this.version ? "STALE" : "STARTING";
        await pause(250 + 1000 * Math.random());
      }
    }
  }

  private async get() {
    const response = await this.fetch("", this.etag ? { "if-none-match": `"${this.etag}"` } : {});
    if (response.status === 304) return;
    if (!response.ok) throw new Error(`the store answers ${response.status}`);
    const { current, canary, configurations } = (await response.json()) as any;
    if (current) [this.version, this.current] = [current.version, statesOf(configurations[current.version])];
    this.canary = canary ? { share: canary.share ?? 0, states: statesOf(configurations[canary.version]) } : undefined;
    this.etag = (response.headers.get("etag") ?? "").replaceAll('"', "");
  }

  private fetch(path: string, headers: Record<string, string> = {}) {
    return fetch(this.channel + path, { headers: { ...this.headers, ...headers }, signal: AbortSignal.timeout(20_000) });
  }
}

/** Sort "answer.instructions", "answer.demos" and "answer.temperature" by predictor. */
function statesOf(configuration: Fields): States {
  const states: States = {};
  for (const [name, value] of Object.entries(configuration)) {
    const dot = name.lastIndexOf(".");
    const [predictor, attribute] = [name.slice(0, dot), name.slice(dot + 1)];
    const state = (states[predictor] ??= { instructions: "", settings: {} });
    if (attribute === "instructions") state.instructions = value as string;
    else if (attribute === "demos") state.demos = value as Fields[];
    else if (value !== null) state.settings![attribute] = value;
  }
  return states;
}

const { STORE = "http://127.0.0.1:8642", CHANNEL = "default", SIMBA_TOKEN, PORT = "8000" } = process.env;
const follower = new Follower(
  `${STORE}/api/channels/${encodeURIComponent(CHANNEL)}`,
  SIMBA_TOKEN ? { authorization: `Bearer ${SIMBA_TOKEN}` } : {},
);
follower.follow();

const server = createServer(async (request, response) => {
  try {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const { version, state } = follower;
    const prediction = await run(follower.states(), JSON.parse(Buffer.concat(chunks).toString()), new Trace(), AbortSignal.timeout(60_000));
    response.end(JSON.stringify({ ...prediction, version, state }));
  } catch (error) {
    response.writeHead(500).end(JSON.stringify({ error: String(error) }));
  }
});
server.listen(Number(PORT), "127.0.0.1", () => console.log(`http://127.0.0.1:${(server.address() as any).port}`));
