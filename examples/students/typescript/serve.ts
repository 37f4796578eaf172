// Serves the program to its users with what was optimized: it follows a channel of a store that
// `simba-actors serve --channels` makes available, and changes within a second of a publication.
//
//     STORE=http://127.0.0.1:8642 CHANNEL=default PORT=8000 npx tsx serve.ts
//     curl -d '{"question": "What is 1 + 1?", "user": "ann"}' http://127.0.0.1:8000
//     curl -d '{"call": "0.1.5f…", "score": 1}' http://127.0.0.1:8000/score
//
// CACHE is a file for what was read last, which serves at a start while the store is down.

import { createHash, randomBytes } from "node:crypto";
import { readFile, rename, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { setTimeout as pause } from "node:timers/promises";
import { predictors, run, Trace, type Fields, type State } from "./program.js";

type States = Record<string, State>;
type Version = { version: number; states: States };

const sha256 = (text: string) => createHash("sha256").update(text);

/** Follows a channel. A request never waits for it: until it has read anything, the program's own states serve. */
class Follower {
  /** READY, or STALE while the store can't be reached and the last known states serve. */
  state = "STARTING";
  private current: Version = {
    version: 0,
    states: Object.fromEntries(Object.entries(predictors).map(([name, { instructions }]) => [name, { instructions }])),
  };
  private canary?: Version & { share: number };
  private etag = "";

  constructor(private channel: string, private headers: Record<string, string>, private cache: string) {}

  /** What a user's request runs with, and the id of the call. A user gets the same version while there is a canary. */
  pick(user: string) {
    const { canary, current } = this;
    const drawn = sha256(`${canary?.version}/${user}`).digest().readUInt32BE() / 2 ** 32;
    const { version, states } = canary && drawn < canary.share ? canary : current;
    return { version, states, call: `${canary?.version ?? 0}.${version}.${randomBytes(16).toString("hex")}` };
  }

  /** Send a call's score, higher is better, until the store takes or refuses it. However often it arrives, it counts once. */
  async report(call: string, score: number) {
    if (call.startsWith("0.")) return; // Without a canary there is nothing to decide.
    const body = JSON.stringify({ scores: [{ call, score }] });
    const headers = { "content-type": "application/json" };
    for (;;) {
      const status = await this.fetch("/reports", headers, body).then((response) => response.status, () => 503);
      if (status < 500) return;
      await pause(500 + 1000 * Math.random());
    }
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
        this.state = this.current.version ? "STALE" : "STARTING";
        await pause(250 + 1000 * Math.random());
      }
    }
  }

  private async get() {
    const response = await this.fetch("", this.etag ? { "if-none-match": `"${this.etag}"` } : {});
    if (response.status === 304) return;
    if (!response.ok) throw new Error(`the store answers ${response.status}`);
    const body = await response.text();
    this.take(body);
    this.etag = (response.headers.get("etag") ?? "").replaceAll('"', "");
    if (this.cache) await this.save(body).catch((error) => console.error(`${this.cache} can't be written: ${error}`));
  }

  private take(body: string) {
    const { current, canary, configurations } = JSON.parse(body);
    const versionOf = ({ version }: { version: number }) => ({ version, states: statesOf(configurations[version]) });
    if (current) this.current = versionOf(current);
    this.canary = canary ? { share: canary.share ?? 0, ...versionOf(canary) } : undefined;
  }

  private async save(body: string) {
    const partial = `${this.cache}.${process.pid}`;
    await writeFile(partial, JSON.stringify({ sha256: sha256(body).digest("hex"), body }), { mode: 0o600 });
    await rename(partial, this.cache);
  }

  /** Take what was read last, in this process or an earlier one. */
  async load() {
    if (!this.cache) return;
    try {
      const { sha256: expected, body } = JSON.parse(await readFile(this.cache, "utf8"));
      if (sha256(body).digest("hex") !== expected) throw new Error("its checksum is wrong");
      this.take(body);
    } catch (error) {
      if ((error as { code?: string }).code !== "ENOENT") console.error(`${this.cache} is ignored: ${error}`);
    }
  }

  private fetch(path: string, headers: Record<string, string> = {}, body?: string) {
    const [method, signal] = [body === undefined ? "GET" : "POST", AbortSignal.timeout(20_000)];
    return fetch(this.channel + path, { method, headers: { ...this.headers, ...headers }, body, signal });
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

const { STORE = "http://127.0.0.1:8642", CHANNEL = "default", SIMBA_TOKEN, CACHE = "", PORT = "8000" } = process.env;
const follower = new Follower(
  `${STORE}/api/channels/${encodeURIComponent(CHANNEL)}`,
  SIMBA_TOKEN ? { authorization: `Bearer ${SIMBA_TOKEN}` } : {},
  CACHE,
);
await follower.load();
follower.follow();

const server = createServer(async (request, response) => {
  try {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const { user = "", call, score, ...inputs } = JSON.parse(Buffer.concat(chunks).toString());
    if (request.url === "/score") {
      follower.report(String(call), Number(score));
      return response.end("{}");
    }
    const { states, ...chosen } = follower.pick(String(user));
    const prediction = await run(states, inputs, new Trace(), AbortSignal.timeout(60_000));
    response.end(JSON.stringify({ ...prediction, ...chosen, state: follower.state }));
  } catch (error) {
    response.writeHead(500).end(JSON.stringify({ error: String(error) }));
  }
});
server.listen(Number(PORT), "127.0.0.1", () => console.log(`http://127.0.0.1:${(server.address() as any).port}`));
