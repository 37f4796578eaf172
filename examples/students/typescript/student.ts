// Serves the program to optimizers: Describe, Run and Cancel over HTTP and gRPC, as `bridge.proto` documents them.

import { createServer } from "node:http";
import { HintAndAnswer, LMUnavailable, predictors, type Fields, type States } from "./program.js";

export const LARGEST_MESSAGE = 16 * 1024 * 1024;
const [MAJOR, MOST_RUNS, REPLIES_KEPT_MS] = [1, 32, 600_000];
const { SIMBA_STUDENT_TOKEN: TOKEN, CODE_VERSION = "1", HOST = "127.0.0.1", PORT = "7000", GRPC_PORT } = process.env;

/** An answer to a call that can't be served: one of gRPC's codes, and the HTTP status that goes with it. */
class Refusal extends Error {
  constructor(readonly code: string, readonly status: number, message: string) {
    super(message);
  }
}

const invalid = (message: string) => new Refusal("invalid_argument", 400, message);
const isObject = (value: unknown) => typeof value === "object" && value !== null && !Array.isArray(value);
const underWay = new Map<string, AbortController>();
const known = new Map<string, { content: string; reply: Promise<Fields> }>();

/** Answer a call, over HTTP or gRPC. A message is an object in protobuf's JSON mapping. */
export async function answer(method: string, message: any, authorization?: unknown): Promise<Fields> {
  const isKnown = TOKEN ? authorization === `Bearer ${TOKEN}` : HOST === "127.0.0.1";
  if (!isKnown) throw new Refusal("unauthenticated", 401, "the token is wrong, or SIMBA_STUDENT_TOKEN is not set here");
  if (!isObject(message)) throw invalid("the message is not an object");
  const majors = (method === "Run" ? [message.major] : message.majors) ?? [];
  if (majors.length && !majors.includes(MAJOR)) throw new Refusal("failed_precondition", 400, "this is version 1");
  if (method === "Describe") return description();
  if (method === "Run") return run(message);
  if (method !== "Cancel") throw new Refusal("unimplemented", 501, "the methods are Describe, Run and Cancel");
  underWay.get(message.key)?.abort();
  return { found: underWay.has(message.key) };
}

function description() {
  const fields = (names: string[]) => names.map((name) => ({ name, schema: { type: "string" } }));
  const described = Object.entries(predictors).map(([name, { instructions, inputs, outputs }]) =>
    ({ name, instructions, inputs: fields(inputs), outputs: fields(outputs) }));
  const about = { name: "HintAndAnswer", summary: "Finds a hint, then the answer.", codeVersion: CODE_VERSION };
  return { major: MAJOR, ...about, inputs: fields(["question"]), predictors: described, maxConcurrency: MOST_RUNS };
}

/** Run the program, or return the reply of the Run with the same key, unless that says nothing about the program. */
function run({ key, predictors: states, inputs, timeoutSeconds }: any): Promise<Fields> {
  const names = Object.keys(predictors);
  if (!/^[A-Za-z0-9-]{1,64}$/.test(key ?? "")) throw invalid("a key has 1 to 64 letters, digits and hyphens");
  if (!isObject(states) || !isObject(inputs ?? {})) throw invalid("predictors and inputs must be objects");
  if (Object.keys(states).sort().join() !== names.sort().join()) throw invalid(`the predictors are ${names}`);
  if (names.some((name) => states[name]?.model?.name)) throw invalid("there are no other models");
  const content = JSON.stringify([states, inputs]);
  const earlier = known.get(key);
  if (earlier && earlier.content !== content) throw new Refusal("already_exists", 409, "another request had that key");
  if (earlier) return earlier.reply;
  if (underWay.size >= MOST_RUNS) throw new Refusal("resource_exhausted", 429, `${MOST_RUNS} Runs are under way`);
  const reply = execute(key, states, inputs ?? {}, timeoutSeconds || 3600);
  known.set(key, { content, reply });
  const forget = () => known.delete(key);
  const keep = () => setTimeout(forget, REPLIES_KEPT_MS).unref();
  reply.then(({ outcome }) => (outcome === "OUTCOME_INFRASTRUCTURE_FAILURE" ? forget() : keep()), forget);
  return reply;
}

async function execute(key: string, states: States, inputs: Fields, seconds: number) {
  const [started, abort] = [performance.now(), new AbortController()];
  setTimeout(() => abort.abort("late"), 1000 * Math.min(seconds, 3600)).unref();
  const program = new HintAndAnswer(states, abort.signal);
  const reply = (outcome: string, rest: Fields): Fields => {
    const seconds = (performance.now() - started) / 1000;
    return { key, outcome: `OUTCOME_${outcome}`, ...program.done, ...rest, seconds, codeVersion: CODE_VERSION };
  };
  underWay.set(key, abort);
  try {
    return reply("SUCCEEDED", { prediction: await program.run(inputs) });
  } catch (error) {
    if (abort.signal.reason === "late") throw new Refusal("deadline_exceeded", 504, "the Run did not end in time");
    if (abort.signal.aborted) throw new Refusal("aborted", 409, "the Run was cancelled");
    const { constructor: { name: type }, message, cause } = error as Error;
    if (!(error instanceof LMUnavailable)) return reply("PROGRAM_FAILURE", { failure: { type, message } });
    return reply("INFRASTRUCTURE_FAILURE", { failure: { type, message, ...(cause as object) } });
  } finally {
    underWay.delete(key);
  }
}

createServer(async (request, response) => {
  const send = (status: number, body: Fields) =>
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
  try {
    let body = "";
    for await (const chunk of request.setEncoding("utf8")) if (body.length <= LARGEST_MESSAGE) body += chunk;
    if (body.length > LARGEST_MESSAGE) throw invalid(`a request has at most ${LARGEST_MESSAGE} bytes`);
    if (request.headers.origin) throw new Refusal("permission_denied", 403, "web pages may not call a student");
    const method = request.url!.split("/simba_actors.bridge.Student/")[1];
    send(200, await answer(method, JSON.parse(body), request.headers.authorization));
  } catch (error) {
    const refusal = error instanceof SyntaxError ? invalid(`the body is not JSON: ${error}`) : error;
    const { code = "internal", status = 500, message } = refusal as Refusal;
    send(status, { code, message });
  }
}).listen(Number(PORT), HOST, async function (this: any) {
  console.log(`http://${HOST}:${this.address().port}`);
  if (GRPC_PORT) (await import("./grpc.js")).serve(`${HOST}:${GRPC_PORT}`);
});
