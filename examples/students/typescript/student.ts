// The contract: Describe, Run and Cancel over HTTP and gRPC. PORT and GRPC_PORT say where; loopback unless HOST is set.

import { createServer, type IncomingMessage } from "node:http";
import { predictors, run as runProgram, LMUnavailable, Trace, type Fields, type State } from "./program.js";

const MAJOR = 1;
const MOST_RUNS = 32;
const LARGEST_MESSAGE = 16 * 1024 * 1024;
const REPLIES_KEPT_MS = 600_000;
const TOKEN = process.env.SIMBA_STUDENT_TOKEN;
const CODE_VERSION = process.env.CODE_VERSION ?? "1";

/** An answer to a call that can't be served: a status code of gRPC, its number and its HTTP status. */
class Refusal extends Error {
  constructor(readonly code: keyof typeof CODES, message: string) {
    super(message);
  }
}

const CODES = {
  canceled: [1, 499],
  invalid_argument: [3, 400],
  deadline_exceeded: [4, 504],
  already_exists: [6, 409],
  resource_exhausted: [8, 429],
  failed_precondition: [9, 400],
  unimplemented: [12, 501],
  internal: [13, 500],
  unauthenticated: [16, 401],
} as const;

interface Request {
  major: number;
  key: string;
  predictors: Record<string, State>;
  inputs?: Fields;
  timeoutSeconds?: number;
}

interface Known {
  content: string;
  reply: Promise<Fields>;
  abort: AbortController;
  ended: boolean;
}

const runs = new Map<string, Known>();

function describe({ majors }: { majors?: number[] }) {
  if (majors?.length && !majors.includes(MAJOR)) throw new Refusal("failed_precondition", `this student speaks ${MAJOR}`);
  const field = (name: string) => ({ name, schema: { type: "string" } });
  return {
    major: MAJOR,
    minor: 0,
    name: "HintAndAnswer",
    codeVersion: CODE_VERSION,
    summary: "Finds a hint, then answers the question with it.",
    inputs: [field("question")],
    predictors: Object.entries(predictors).map(([name, { instructions, inputs, outputs }]) => ({
      name,
      instructions,
      inputs: inputs.map(field),
      outputs: outputs.map(field),
    })),
    maxConcurrency: MOST_RUNS,
  };
}

function run(request: Request): Promise<Fields> {
  check(request);
  const content = JSON.stringify([request.predictors, request.inputs]);
  const known = runs.get(request.key);
  if (known && known.content !== content) throw new Refusal("already_exists", "another request had that key");
  if (known) return known.reply;
  if ([...runs.values()].filter((each) => !each.ended).length >= MOST_RUNS) {
    throw new Refusal("resource_exhausted", `${MOST_RUNS} Runs are under way, which is the most at a time`);
  }
  const abort = new AbortController();
  const started: Known = { content, abort, ended: false, reply: execute(request, abort) };
  runs.set(request.key, started);
  // After an infrastructure failure or a refusal, the same key runs the program again.
  const forget = () => runs.get(request.key) === started && runs.delete(request.key);
  started.reply.then(
    ({ outcome }) => (outcome === "OUTCOME_INFRASTRUCTURE_FAILURE" ? forget() : setTimeout(forget, REPLIES_KEPT_MS).unref()),
    forget,
  ).finally(() => (started.ended = true));
  return started.reply;
}

function check({ major, key, predictors: states, inputs }: Request) {
  const isObject = (value: unknown) => typeof value === "object" && value !== null && !Array.isArray(value);
  if (major !== MAJOR) throw new Refusal("failed_precondition", `this student speaks ${MAJOR}, not ${major}`);
  if (!/^[A-Za-z0-9-]{1,64}$/.test(key ?? "")) throw new Refusal("invalid_argument", "the key is not valid");
  if (!isObject(inputs ?? {}) || !isObject(states)) throw new Refusal("invalid_argument", "inputs and predictors must be objects");
  if (Object.keys(states).sort().join() !== Object.keys(predictors).sort().join()) {
    throw new Refusal("invalid_argument", `the predictors are ${Object.keys(predictors)}`);
  }
  for (const { model } of Object.values(states)) {
    if (model?.name) throw new Refusal("invalid_argument", `there is no model ${model.name}`);
  }
}

async function execute(request: Request, abort: AbortController): Promise<Fields> {
  const trace = new Trace();
  const started = performance.now();
  const deadline = setTimeout(() => abort.abort("late"), (request.timeoutSeconds || 3600) * 1000);
  const reply = (outcome: string, rest: Fields) => {
    const seconds = (performance.now() - started) / 1000;
    const { steps, usage, cutOff } = trace;
    return { key: request.key, outcome: `OUTCOME_${outcome}`, trace: steps, usage, seconds, cutOff, codeVersion: CODE_VERSION, ...rest };
  };
  try {
    const prediction = await runProgram(request.predictors, request.inputs ?? {}, trace, abort.signal);
    return reply("SUCCEEDED", { prediction });
  } catch (error) {
    if (abort.signal.reason === "late") throw new Refusal("deadline_exceeded", "the Run did not end in time");
    if (abort.signal.aborted) throw new Refusal("canceled", "the Run was cancelled");
    const { name: type, message } = error as Error;
    if (!(error instanceof LMUnavailable)) return reply("PROGRAM_FAILURE", { failure: { type, message } });
    const { permanent, retryAfter: retryAfterSeconds } = error;
    return reply("INFRASTRUCTURE_FAILURE", { failure: { type: "LMUnavailable", message, permanent, retryAfterSeconds } });
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

/** The methods by name. A message is what protobuf's JSON mapping makes of it. */
export const methods: Record<string, (message: any) => Fields | Promise<Fields>> = { Describe: describe, Run: run, Cancel: cancel };

export function authorize(authorization: string | undefined) {
  if (TOKEN && authorization !== `Bearer ${TOKEN}`) throw new Refusal("unauthenticated", "the token is missing or wrong");
}

/** Return what to say of an error: gRPC's number, the HTTP status and a body. */
export function refusalOf(error: unknown) {
  const code = error instanceof Refusal ? error.code : "internal";
  return { grpc: CODES[code][0], status: CODES[code][1], body: { code, message: String((error as Error).message) } };
}

async function messageOf(request: IncomingMessage) {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size <= LARGEST_MESSAGE) chunks.push(chunk); // The rest is read, so that the refusal arrives, but not kept.
  }
  if (size > LARGEST_MESSAGE) throw new Refusal("invalid_argument", `a request has at most ${LARGEST_MESSAGE} bytes`);
  try {
    const message = JSON.parse(Buffer.concat(chunks).toString());
    if (typeof message === "object" && message !== null && !Array.isArray(message)) return message;
  } catch {}
  throw new Refusal("invalid_argument", "the body is not a JSON object");
}

const server = createServer(async (request, response) => {
  const send = (status: number, body: Fields) => {
    response.writeHead(status, { "content-type": "application/json", ...(status === 429 && { "retry-after": "0.5" }) });
    response.end(JSON.stringify(body));
  };
  try {
    const message = await messageOf(request);
    authorize(request.headers.authorization);
    if (request.headers.origin) throw new Refusal("unauthenticated", "web pages may not call a student");
    const method = methods[request.url?.split("/simba_actors.bridge.Student/")[1] ?? ""];
    if (!method) throw new Refusal("unimplemented", "a student has the methods Describe, Run and Cancel");
    send(200, await method(message));
  } catch (error) {
    const { status, body } = refusalOf(error);
    send(status, body);
  }
});

const host = process.env.HOST ?? "127.0.0.1";
server.listen(Number(process.env.PORT ?? 7000), host, async () => {
  console.log(`http://${host}:${(server.address() as { port: number }).port}`);
  if (process.env.GRPC_PORT) console.log(`grpc://${host}:${await (await import("./grpc.js")).serve(host, process.env.GRPC_PORT)}`);
});
