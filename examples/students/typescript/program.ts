// The program: it finds a hint, then the answer. It knows nothing of optimizers. What it has in place of constants in
// the code is `states`: the instructions, demos and LM settings of each predictor.

export type Fields = Record<string, unknown>;
export type Model = { name?: string; temperature?: number; rolloutId?: number };
export type State = { instructions: string; demos?: Fields[]; settings?: Fields; model?: Model };

export const predictors = {
  hint: { instructions: "Give a hint that helps to answer the question.", inputs: ["question"], outputs: ["hint"] },
  answer: { instructions: "Answer the question.", inputs: ["question", "hint"], outputs: ["answer"] },
};

/** What the program did: its predictors' calls, and what they used. */
export class Trace {
  steps: Fields[] = [];
  usage = { calls: 0, promptTokens: 0, completionTokens: 0 };
  cutOff = false;
}

/** The LM could not be reached, or refuses to serve. That is not the program's fault. */
export class LMUnavailable extends Error {
  constructor(message: string, readonly permanent = false, readonly retryAfter = 0) {
    super(message);
  }
}

export async function run(states: Record<string, State>, inputs: Fields, trace: Trace, signal: AbortSignal) {
  const { question } = inputs;
  if (typeof question !== "string") throw new TypeError("question must be a string");
  const { hint } = await predict("hint", states.hint, { question }, trace, signal);
  return predict("answer", states.answer, { question, hint }, trace, signal);
}

async function predict(name: keyof typeof predictors, state: State, inputs: Fields, trace: Trace, signal: AbortSignal) {
  const { inputs: asked, outputs } = predictors[name];
  const wanted = `Respond with a JSON object that has the fields ${outputs.map((output) => `\`${output}\``).join(", ")}.`;
  const ask = (fields: Fields) => [...asked.map((input) => `[[ ## ${input} ## ]]\n${fields[input]}`), wanted].join("\n\n");
  const demos = (state.demos ?? []).flatMap((demo) => [
    { role: "user", content: ask(demo) },
    { role: "assistant", content: JSON.stringify(demo, outputs) },
  ]);
  const messages = [{ role: "system", content: state.instructions }, ...demos, { role: "user", content: ask(inputs) }];
  const reply = JSON.parse(await complete(messages, state, trace, signal)) as Fields;
  const missing = outputs.filter((output) => typeof reply[output] !== "string");
  if (missing.length > 0) throw new Error(`the LM's reply has no ${missing.join(", ")}`);
  trace.steps.push({ predictor: name, inputs, outputs: reply });
  return reply;
}

/** Ask an LM that speaks OpenAI's protocol. A seed tells samples of the same prompt apart. */
async function complete(messages: Fields[], { model: lm, settings }: State, trace: Trace, signal: AbortSignal) {
  const { OPENAI_BASE_URL = "https://api.openai.com/v1", OPENAI_API_KEY = "", STUDENT_MODEL = "gpt-5-mini" } = process.env;
  const headers = { "content-type": "application/json", authorization: `Bearer ${OPENAI_API_KEY}` };
  const chosen = { temperature: lm?.temperature, seed: lm?.rolloutId, ...settings };
  const body = JSON.stringify({ model: STUDENT_MODEL, messages, ...chosen });
  trace.usage.calls += 1;
  const response = await fetch(`${OPENAI_BASE_URL}/chat/completions`, { method: "POST", headers, body, signal }).catch(
    (error) => { throw new LMUnavailable(`the LM can't be reached: ${error}`); },
  );
  const { status } = response;
  if (status === 400) throw new Error(`the LM refuses the prompt: ${(await response.text()).slice(0, 500)}`);
  if (!response.ok) {
    const retryAfter = Number(response.headers.get("retry-after")) || 0;
    throw new LMUnavailable(`the LM answers ${status}`, [401, 402, 403, 404].includes(status), retryAfter);
  }
  const { usage, choices: [choice] } = (await response.json()) as any;
  trace.usage.promptTokens += usage?.prompt_tokens ?? 0;
  trace.usage.completionTokens += usage?.completion_tokens ?? 0;
  trace.cutOff ||= choice.finish_reason === "length";
  return choice.message.content as string;
}
