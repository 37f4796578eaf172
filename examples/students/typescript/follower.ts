// Serves the program to its users, with what was optimized. It follows a channel of a store that `simba-actors serve
// --channels` makes available, as `channels.proto` documents, and changes within a second of a publication.
//
//     STORE=http://127.0.0.1:8642 CHANNEL=default CACHE=known.json PORT=8000 npx tsx follower.ts
//     curl -d '{"question": "What is 1 + 1?"}' http://127.0.0.1:8000

import { createHash } from "node:crypto";
import { readFile, rename, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { setTimeout as pause } from "node:timers/promises";
import { HintAndAnswer, predictors, type Fields, type States } from "./program.js";

const { STORE = "http://127.0.0.1:8642", CHANNEL = "default", SIMBA_TOKEN, CACHE, PORT = "8000" } = process.env;

/** What serves. A request never waits for the store: until it has answered, the program serves as it is in its code. */
let known: { version: number; states: States } = { version: 0, states: predictors };

async function follow(): Promise<never> {
  let [tag, outage] = ["", false];
  for (;;) {
    try {
      const response = await ask("", tag ? { "if-none-match": `"${tag}"` } : {});
      if (response.status === 200) {
        const body = await response.text();
        take(body);
        tag = response.headers.get("etag")?.replace(/^W\/|"/g, "") ?? ""; // A proxy that compresses adds W/.
        await save(body).catch((error) => console.error(`what is known can't be kept in ${CACHE}: ${error}`));
      }
      outage = false;
      // The watch ends when there is something new, or after some seconds. It is only a hint: Get has the truth.
      await ask(`/watch?etag=${tag}`).then((hint) => hint.text()).catch(() => pause(1000));
      await pause(100);
    } catch (error) {
      if (!outage) console.error(`${STORE} can't be followed, so version ${known.version} keeps serving: ${error}`);
      outage = true;
      await pause(250 + 1000 * Math.random());
    }
  }
}

async function ask(path: string, headers: Record<string, string> = {}) {
  const channel = encodeURIComponent(CHANNEL).replaceAll("~", "%7E").replaceAll(".", "%2E").replaceAll("%", "~");
  if (SIMBA_TOKEN) headers.authorization = `Bearer ${SIMBA_TOKEN}`;
  const signal = AbortSignal.timeout(20_000);
  const response = await fetch(`${STORE}/api/channels/${channel}${path}`, { headers, signal });
  if (!response.ok && response.status !== 304) throw new Error(`it answers ${response.status}`);
  return response;
}

/** Take up a snapshot. Its values are called "answer.instructions", "answer.demos", "answer.temperature" and so on. */
function take(snapshot: string) {
  const { current, configurations } = JSON.parse(snapshot);
  if (!current) throw new Error("nothing is published to the channel");
  const states: States = {};
  for (const [name, value] of Object.entries<any>(configurations[current.version])) {
    const [predictor, attribute] = name.split(/\.(?=[^.]*$)/);
    const state = (states[predictor] ??= {});
    if (attribute === "instructions" || attribute === "demos") state[attribute] = value;
    else state.settings = { ...state.settings, ...(value === null ? {} : { [attribute]: value }) };
  }
  const missing = Object.keys(predictors).filter((name) => !(name in states));
  if (missing.length > 0) throw new Error(`version ${current.version} is of another program: it has no ${missing}`);
  known = { version: current.version, states };
}

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

/** Keep the last known good snapshot for a start while the store is down. */
async function save(snapshot: string) {
  if (!CACHE) return;
  await writeFile(`${CACHE}.new`, `${sha256(snapshot)}\n${snapshot}`, { mode: 0o600 });
  await rename(`${CACHE}.new`, CACHE);
}

async function load() {
  const [sum, ...snapshot] = (await readFile(CACHE!, "utf8")).split("\n");
  if (sum !== sha256(snapshot.join("\n"))) throw new Error("its checksum is wrong");
  take(snapshot.join("\n"));
}

if (CACHE) await load().catch((error) => error.code === "ENOENT" || console.error(`${CACHE} is ignored: ${error}`));
follow();

createServer(async (request, response) => {
  try {
    const { version, states } = known;
    const inputs: Fields = JSON.parse((await request.setEncoding("utf8").toArray()).join(""));
    const prediction = await new HintAndAnswer(states, AbortSignal.timeout(60_000)).run(inputs);
    response.end(JSON.stringify({ ...prediction, version }));
  } catch (error) {
    response.writeHead(500).end(JSON.stringify({ error: String(error) }));
  }
}).listen(Number(PORT), "127.0.0.1", function (this: any) {
  console.log(`http://127.0.0.1:${this.address().port}`);
});
