// The contract: Describe, Run and Cancel over HTTP and gRPC. PORT and GRPC_PORT say where; loopback unless HOST is set.

import { createServer, type IncomingMessage } from "node:http";
import { LMUnavailable, predictors, run as runProgram, Trace, type Fields, type State } from "./program.js";

const MAJOR = 1;
const MOST_RUNS = 32;
const LARGEST_MESSAGE = 16 * 1024 * 1024;
const REPLIES_KEPT_MS = 600_000;
const { SIMBA_STUDENT_TOKEN: TOKEN, CODE_VERSION = "1", HOST = "127.0.0.1", PORT = "7000", GRPC_PORT } = process.env;

const STATUS = {
  canceled: 499, invalid_argument: 400, deadline_exceeded: 504, already_exists: 409, resource_exhausted: 429,
  failed_precondition: 400, unimplemented: 501, internal: 500, unauthenticated: 401,
};

/** An answer to a call that can't be served. */
class Refusal extends Error {
  constructor(readonly code: keyof typeof STATUS, message: string) {
    super(message);
  }
}

type Request = { major: number; key: string; predictors: Record<string, State>; inputs?: Fields; timeoutSeconds?: number };
type Known = { content: string; reply: Promise<Fields>; abort: AbortController; ended: boolean };
const runs = new Map<string, Known>();

function describe({ majors }: { majors?: number[] }) {
  if (majors?.length && !majors.includes(MAJOR)) throw new Refusal("failed_precondition", `this student speaks ${MAJOR}`);
  const fields = (names: string[]) => names.map((name) => ({ name, schema: { type: "string" } }));
  const described = Object.entries(predictors).map(([name, { instructions, inputs, outputs }]) => (
    { name, instructions, inputs: fields(inputs), outputs: fields(outputs) }
  ));
  const summary = "Finds a hint, then answers the question with it.";
  const version = { major: MAJOR, minor: 0, name: "HintAndAnswer", codeVersion: CODE_VERSION };
  return { ...version, summary, inputs: fields(["question"]), predictors: described, maxConcurrency: MOST_RUNS };
}

function run(request: Request): Promise<Fields> {
  check(request);
  const { key } = request;
  const content = JSON.stringify([request.predictors, request.inputs]);
  const known = runs.get(key);
  if (known && known.content !== content) throw new Refusal("already_exists", "another request had that key");
  if (known) return known.reply;
  if ([...runs.values()].filter((each) => !each.ended).length >= MOST_RUNS) {
    throw new Refusal("resource_exhausted", `${MOST_RUNS} Runs are under way, which is the most at a time`);
  }
  const abort = new AbortController();
  const started: Known = { content, abort, ended: false, reply: execute(request, abort) };
  runs.set(key, started);
  // After an infrastructure failure or a refusal, the same key runs the program again.
  const forget = () => runs.get(key) === started && runs.delete(key);
  const keep = (reply: Fields) =>
    reply.outcome === "OUTCOME_INFRASTRUCTURE_FAILURE" ? forget() : setTimeout(forget, REPLIES_KEPT_MS).unref();
  started.reply.then(keep, forget).finally(() => (started.ended = true));
  return started.reply;
}

const isObject = (value: unknown) => typeof value === "object" && value !== null && !Array.isArray(value);

function check({ major, key, predictors: states, inputs = {} }: Request) {
  if (major !== MAJOR) throw new Refusal("failed_precondition", `this student speaks ${MAJOR}, not ${major}`);
  const invalid =
    !/^[A-Za-z0-9-]{1,64}$/.test(key ?? "") ? "the key is not valid"
    : !isObject(inputs) || !isObject(states) ? "inputs and predictors must be objects"
    : Object.keys(states).sort().join() !== Object.keys(predictors).sort().join() ? "other predictors are asked for"
    : Object.values(states).some(({ model }) => model?.name) ? "there are no other models"
    : undefined;
  if (invalid) throw new Refusal("invalid_argument", invalid);
}

async function execute({ key, predictors: states, inputs = {}, timeoutSeconds }: Request, abort: AbortController) {
  const started = performance.now();
  const trace = new Trace();
  const deadline = setTimeout(() => abort.abort("late"), (timeoutSeconds || 3600) * 1000);
  const reply = (outcome: string, rest: Fields): Fields => {
    const [{ steps, usage, cutOff }, seconds] = [trace, (performance.now() - started) / 1000];
    return { key, outcome: `OUTCOME_${outcome}`, trace: steps, usage, seconds, cutOff, codeVersion: CODE_VERSION, ...rest };
  };
  try {
    return reply("SUCCEEDED", { prediction: await runProgram(states, inputs, trace, abort.signal) });
  } catch (error) {
    if (abort.signal.reason === "late") throw new Refusal("deadline_exceeded", "the Run did not end in time");
    if (abort.signal.aborted) throw new Refusal("canceled", "the Run was cancelled");
    const { name, message } = error as Error;
    if (!(error instanceof LMUnavailable)) return reply("PROGRAM_FAILURE", { failure: { type: name, message } });
    const { permanent, retryAfter } = error;
    const failure = { type: "LMUnavailable", message, permanent, retryAfterSeconds: retryAfter };
    return reply("INFRASTRUCTURE_FAILURE", { failure });
  } finally {
    clearTimeout(deadline);
  }
}

function cancel({ key }: { key: string }) {
  const known = runs.get(key);
  const found = known !== undefined && !known.ended;
  if (found) known.abort.abort("cancelled");
  return { found };
}

type Method = (message: any) => Fields | Promise<Fields>;
const methods = new Map<string, Method>([["Describe", describe], ["Run", run], ["Cancel", cancel]]);

/** Answer a call of a method by name. A message is what protobuf's JSON mapping makes of it. */
export async function answer(method: string, message: unknown, authorization?: string) {
  if (TOKEN && authorization !== `Bearer ${TOKEN}`) throw new Refusal("unauthenticated", "the token is missing or wrong");
  const call = methods.get(method);
  if (!call) throw new Refusal("unimplemented", `a student has the methods ${[...methods.keys()]}`);
  return call(message);
}

/** Return the code of an error, and what to say of it. */
export function refusalOf(error: unknown) {
  return { code: error instanceof Refusal ? error.code : "internal", message: String((error as Error).message) } as const;
}

async function messageOf(request: IncomingMessage) {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size <= LARGEST_MESSAGE) chunks.push(chunk); // The rest is read, so that the refusal arrives, but not kept.
  }
  if (size > LARGEST_MESSAGE) throw new Refusal("invalid_argument", `a request has at most ${LARGEST_MESSAGE} bytes`);
  let message: unknown;
  try {
    message = JSON.parse(Buffer.concat(chunks).toString());
  } catch {} // It is refused below.
  if (!isObject(message)) throw new Refusal("invalid_argument", "the body is not a JSON object");
  return message;
}

const server = createServer(async (request, response) => {
  const send = (status: number, body: Fields, headers = {}) =>
    response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
  try {
    const message = await messageOf(request);
    if (request.headers.origin) throw new Refusal("unauthenticated", "web pages may not call a student");
    const method = request.url?.split("/simba_actors.bridge.Student/")[1] ?? "";
    send(200, await answer(method, message, request.headers.authorization));
  } catch (error) {
    const refusal = refusalOf(error);
    const status = STATUS[refusal.code];
    send(status, refusal, status === 429 ? { "retry-after": "0.5" } : {});
  }
});

server.listen(Number(PORT), HOST, async () => {
  console.log(`http://${HOST}:${(server.address() as { port: number }).port}`);
  if (GRPC_PORT) console.log(`grpc://${HOST}:${await (await import("./grpc.js")).serve(HOST, GRPC_PORT)}`);
});
