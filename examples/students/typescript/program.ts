// The program: it finds a hint, then the answer. `states` has what an optimizer may change of each predictor.

export type Fields = Record<string, unknown>;
export type Model = { name?: string; temperature?: number; rolloutId?: number };
export type States = Record<string, { instructions?: string; demos?: Fields[]; settings?: Fields; model?: Model }>;

export const predictors = {
  hint: { instructions: "Give a hint that helps to answer the question.", inputs: ["question"], outputs: ["hint"] },
  answer: { instructions: "Answer the question.", inputs: ["question", "hint"], outputs: ["answer"] },
};

/** The LM can't be reached, or refuses to serve. That is not the program's fault. The cause says when to try again. */
export class LMUnavailable extends Error {}

/** One run of the program, with what it has done so far. */
export class HintAndAnswer {
  done = { trace: [] as Fields[], usage: { calls: 0, promptTokens: 0, completionTokens: 0 }, cutOff: false };

  constructor(private states: States, private signal: AbortSignal) {}

  async run({ question }: Fields) {
    if (typeof question !== "string") throw new TypeError("question must be a string");
    const { hint } = await this.predict("hint", { question });
    return this.predict("answer", { question, hint });
  }

  private async predict(predictor: keyof typeof predictors, inputs: Fields) {
    const { inputs: asked, outputs } = predictors[predictor];
    const { instructions = "", demos, settings, model } = this.states[predictor];
    const wanted = `Respond with a JSON object that has the fields ${outputs.map((output) => `\`${output}\``)}.`;
    const shown = (fields: Fields) => asked.map((name) => `[[ ## ${name} ## ]]\n${fields[name]}\n\n`).join("") + wanted;
    const turns = (demos ?? []).flatMap((demo) => [
      { role: "user", content: shown(demo) },
      { role: "assistant", content: JSON.stringify(demo, outputs) },
    ]);
    const messages = [{ role: "system", content: instructions }, ...turns, { role: "user", content: shown(inputs) }];
    const { temperature, rolloutId: seed } = model ?? {};
    const answer = await this.complete({ messages, temperature, seed, ...settings });
    const reply = Object.fromEntries(outputs.map((name) => [name, answer[name]]));
    const missing = outputs.filter((name) => typeof reply[name] !== "string");
    if (missing.length > 0) throw new Error(`the LM's reply has no ${missing}`);
    this.done.trace.push({ predictor, inputs, outputs: reply });
    return reply;
  }

  /** Ask an LM that speaks OpenAI's protocol. A seed tells samples of the same prompt apart. */
  private async complete(prompt: Fields): Promise<Fields> {
    const { OPENAI_BASE_URL = "https://api.openai.com/v1", OPENAI_API_KEY, STUDENT_MODEL = "gpt-5-mini" } = process.env;
    const headers = { "content-type": "application/json", authorization: `Bearer ${OPENAI_API_KEY}` };
    const body = JSON.stringify({ model: STUDENT_MODEL, ...prompt });
    const unreachable = (error: unknown) => { throw new LMUnavailable(`the LM can't be reached: ${error}`); };
    this.done.usage.calls += 1;
    const asked = { method: "POST", headers, body, signal: this.signal };
    const response = await fetch(`${OPENAI_BASE_URL}/chat/completions`, asked).catch(unreachable);
    if (response.status === 400) throw new Error(`the LM refuses the prompt: ${(await response.text()).slice(0, 500)}`);
    const retryAfterSeconds = Number(response.headers.get("retry-after")) || 0;
    const cause = { permanent: [401, 402, 403, 404].includes(response.status), retryAfterSeconds };
    if (!response.ok) throw new LMUnavailable(`the LM answers ${response.status}`, { cause });
    const { usage, choices } = (await response.json().catch(unreachable)) as any;
    if (!choices?.length) throw new LMUnavailable("the LM answers without choices");
    this.done.usage.promptTokens += usage?.prompt_tokens ?? 0;
    this.done.usage.completionTokens += usage?.completion_tokens ?? 0;
    this.done.cutOff ||= choices[0].finish_reason === "length";
    return JSON.parse(choices[0].message.content);
  }
}
