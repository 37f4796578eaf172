// The program: it finds a hint, then the answer. It knows nothing of optimizers. What it has in place of constants in
// the code is `states`: the instructions, demos and LM settings of each predictor.

export type Fields = Record<string, unknown>;

export interface State {
  instructions: string;
  demos?: Fields[];
  settings?: Fields;
  model?: { name?: string; temperature?: number; rolloutId?: number };
}

export const predictors = {
  hint: { instructions: "Give a hint that helps to answer the question.", inputs: ["question"], outputs: ["hint"] },
  answer: { instructions: "Answer the question.", inputs: ["question", "hint"], outputs: ["answer"] },
};

/** What the program did: its predictors' calls, and what they used. */
export class Trace {
  steps: { predictor: string; inputs: Fields; outputs: Fields }[] = [];
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
  const { outputs } = predictors[name];
  const ask = (fields: Fields) =>
    predictors[name].inputs.map((input) => `[[ ## ${input} ## ]]\n${fields[input]}`).join("\n\n") +
    `\n\nRespond with a JSON object that has the fields ${outputs.map((output) => `\`${output}\``).join(", ")}.`;
  const tell = (fields: Fields) => JSON.stringify(Object.fromEntries(outputs.map((output) => [output, fields[output]])));
  const messages = [
    { role: "system", content: state.instructions },
    ...(state.demos ?? []).flatMap((demo) => [
      { role: "user", content: ask(demo) },
      { role: "assistant", content: tell(demo) },
    ]),
    { role: "user", content: ask(inputs) },
  ];
  const reply = JSON.parse(await complete(messages, state, trace, signal)) as Fields;
  const missing = outputs.filter((output) => typeof reply[output] !== "string");
  if (missing.length > 0) throw new Error(`the LM's reply has no ${missing.join(", ")}`);
  trace.steps.push({ predictor: name, inputs, outputs: reply });
  return reply;
}

/** Ask an LM that speaks OpenAI's protocol. */
async function complete(messages: Fields[], { model, settings }: State, trace: Trace, signal: AbortSignal) {
  const url = `${process.env.OPENAI_BASE_URL ?? "https://api.openai.com/v1"}/chat/completions`;
  const body = {
    model: process.env.STUDENT_MODEL ?? "gpt-5-mini",
    messages,
    temperature: model?.temperature,
    seed: model?.rolloutId, // Tells samples of the same prompt apart.
    ...settings,
  };
  const headers = { "content-type": "application/json", authorization: `Bearer ${process.env.OPENAI_API_KEY ?? ""}` };
  trace.usage.calls += 1;
  let response: Response;
  try {
    response = await fetch(url, { method: "POST", headers, body: JSON.stringify(body), signal });
  } catch (error) {
    throw new LMUnavailable(`the LM can't be reached: ${error}`);
  }
  if (response.status === 400) throw new Error(`the LM refuses the prompt: ${(await response.text()).slice(0, 500)}`);
  if (!response.ok) {
    const permanent = [401, 402, 403, 404].includes(response.status);
    throw new LMUnavailable(`the LM answers ${response.status}`, permanent, Number(response.headers.get("retry-after")) || 0);
  }
  const completion = (await response.json()) as any;
  trace.usage.promptTokens += completion.usage?.prompt_tokens ?? 0;
  trace.usage.completionTokens += completion.usage?.completion_tokens ?? 0;
  trace.cutOff ||= completion.choices[0].finish_reason === "length";
  return completion.choices[0].message.content as string;
}
