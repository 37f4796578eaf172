# A student in Elixir: a program of two predictors, a client of an LM, and a GenServer that knows the Runs.
#
# `serve_student.exs` starts it.

defmodule Program do
  @moduledoc "Finds a hint, then the answer. It knows nothing of optimizers: `states` has what they may change."

  @predictors [
    {"hint", "Give a hint that helps to answer the question.", ["question"], ["hint"]},
    {"answer", "Answer the question.", ["question", "hint"], ["answer"]}
  ]

  def predictors, do: @predictors

  @doc "Return the prediction. `report` is called with each step, and with what each LM call used."
  def run(states, %{"question" => question}, report) when is_binary(question) do
    %{"hint" => hint} = predict("hint", states, %{"question" => question}, report)
    predict("answer", states, %{"question" => question, "hint" => hint}, report)
  end

  defp predict(name, states, inputs, report) do
    {_, _, known, outputs} = List.keyfind(@predictors, name, 0)
    state = Map.fetch!(states, name)
    wanted = "Respond with a JSON object that has the fields #{Enum.map_join(outputs, ", ", &"`#{&1}`")}."
    ask = fn fields -> Enum.map_join(known, "\n\n", &"[[ ## #{&1} ## ]]\n#{fields[&1]}") <> "\n\n" <> wanted end
    demos = Enum.flat_map(state["demos"] || [], &[{"user", ask.(&1)}, {"assistant", :jiffy.encode(Map.take(&1, outputs))}])
    turns = [{"system", state["instructions"] || ""}] ++ demos ++ [{"user", ask.(inputs)}]
    messages = for {role, text} <- turns, do: %{role: role, content: text}
    reply = :jiffy.decode(LM.complete(messages, state, report), [:return_maps])
    missing = Enum.reject(outputs, &is_binary(reply[&1]))
    if missing != [], do: raise("the LM's reply has no #{Enum.join(missing, ", ")}")
    report.(%{step: %{predictor: name, inputs: inputs, outputs: reply}})
    reply
  end
end

defmodule LM do
  @moduledoc "A client of an LM that speaks OpenAI's protocol."

  def complete(messages, state, report) do
    url = System.get_env("OPENAI_BASE_URL", "https://api.openai.com/v1") <> "/chat/completions"
    model = state["model"] || %{}
    chosen = for {name, value} <- [temperature: model["temperature"], seed: model["rolloutId"]], value != nil, into: %{}, do: {name, value}
    fixed = %{model: System.get_env("STUDENT_MODEL", "gpt-5-mini"), messages: messages}
    body = fixed |> Map.merge(chosen) |> Map.merge(state["settings"] || %{}) |> :jiffy.encode()
    headers = [{'authorization', 'Bearer #{System.get_env("OPENAI_API_KEY", "")}'}]
    request = {String.to_charlist(url), headers, 'application/json', body}
    report.(%{calls: 1})
    case :httpc.request(:post, request, [], body_format: :binary) do
      {:ok, {{_, 200, _}, _, answer}} ->
        %{"choices" => [choice | _]} = answer = :jiffy.decode(answer, [:return_maps])
        used = answer["usage"] || %{}
        report.(%{promptTokens: used["prompt_tokens"] || 0, completionTokens: used["completion_tokens"] || 0})
        report.(%{cut_off: choice["finish_reason"] == "length"})
        choice["message"]["content"]
      {:ok, {{_, 400, _}, _, answer}} -> raise "the LM refuses the prompt: #{String.slice(answer, 0, 500)}"
      {:ok, {{_, status, _}, _, _}} -> throw({:unavailable, "the LM answers #{status}", status in [401, 402, 403, 404]})
      {:error, reason} -> throw({:unavailable, "the LM can't be reached: #{inspect(reason)}", false})
    end
  end
end

defmodule Student do
  @moduledoc "Knows the Runs by key. Each runs in a process of its own, so that it can be ended, and ends alone."
  use GenServer

  @major 1
  @most_runs 32
  @kept_ms 600_000

  def start_link, do: GenServer.start_link(__MODULE__, %{}, name: __MODULE__)

  @doc "Answer a call: `{:ok, message}` or `{:refused, status, code, why}`."
  def call("Describe", request) do
    majors = request["majors"] || []
    if majors == [] or @major in majors, do: {:ok, describe()}, else: speaks()
  end
  def call("Run", %{"major" => major}) when major != @major, do: speaks()
  def call("Run", request) do
    states = request["predictors"]
    names = Program.predictors() |> Enum.map(&elem(&1, 0)) |> Enum.sort()
    cond do
      not (is_binary(request["key"]) and request["key"] =~ ~r/^[A-Za-z0-9-]{1,64}$/) -> invalid("the key is not valid")
      not (is_map(states) and is_map(request["inputs"] || %{})) -> invalid("inputs and predictors must be objects")
      Enum.sort(Map.keys(states)) != names -> invalid("the predictors are #{Enum.join(names, ", ")}")
      Enum.any?(states, fn {_, state} -> (state["model"] || %{})["name"] not in [nil, ""] end) -> invalid("there is no such model")
      true -> GenServer.call(__MODULE__, {:run, request}, :infinity)
    end
  end
  def call("Cancel", %{"key" => key}), do: GenServer.call(__MODULE__, {:cancel, key})
  def call("Cancel", _), do: invalid("the key is missing")
  def call(_, _), do: {:refused, 501, "unimplemented", "a student has the methods Describe, Run and Cancel"}

  defp speaks, do: {:refused, 400, "failed_precondition", "this student speaks version #{@major}"}
  defp invalid(why), do: {:refused, 400, "invalid_argument", why}

  defp describe do
    field = &%{name: &1, schema: %{type: "string"}}
    predictors =
      for {name, instructions, inputs, outputs} <- Program.predictors(),
          do: %{name: name, instructions: instructions, inputs: Enum.map(inputs, field), outputs: Enum.map(outputs, field)}
    %{major: @major, minor: 0, name: "HintAndAnswer", codeVersion: "1", inputs: [field.("question")], predictors: predictors,
      summary: "Finds a hint, then answers the question with it.", maxConcurrency: @most_runs}
  end

  def init(runs), do: {:ok, runs}

  # A Run is {content, :running, pid, callers} or {content, :ended, reply}, by key.
  def handle_call({:run, %{"key" => key} = request}, caller, runs) do
    content = :erlang.phash2({request["predictors"], request["inputs"]}, 4_294_967_296)
    under_way = Enum.count(runs, fn {_, run} -> elem(run, 1) == :running end)
    case runs[key] do
      {^content, :ended, reply} -> {:reply, {:ok, reply}, runs}
      {^content, :running, pid, callers} -> {:noreply, %{runs | key => {content, :running, pid, [caller | callers]}}}
      nil when under_way < @most_runs ->
        student = self()
        pid = spawn(fn -> send(student, {:done, key, execute(request)}) end)
        limit = request["timeoutSeconds"] || 0
        Process.send_after(self(), {:late, key, pid}, round(1000 * if(limit > 0, do: min(limit, 3600), else: 3600)))
        {:noreply, Map.put(runs, key, {content, :running, pid, [caller]})}
      nil -> {:reply, {:refused, 429, "resource_exhausted", "#{@most_runs} Runs are under way"}, runs}
      _ -> {:reply, {:refused, 409, "already_exists", "another request had that key"}, runs}
    end
  end
  def handle_call({:cancel, key}, _, runs) do
    found = match?({_, :running, _, _}, runs[key])
    {:reply, {:ok, %{found: found}}, if(found, do: stop(runs, key, {:refused, 499, "canceled", "it was cancelled"}), else: runs)}
  end

  def handle_info({:done, key, reply}, runs) do
    case runs[key] do
      {content, :running, _, callers} ->
        Enum.each(callers, &GenServer.reply(&1, {:ok, reply}))
        Process.send_after(self(), {:forget, key}, @kept_ms)
        failed = reply.outcome == "OUTCOME_INFRASTRUCTURE_FAILURE"
        {:noreply, if(failed, do: Map.delete(runs, key), else: %{runs | key => {content, :ended, reply}})}
      _ -> {:noreply, runs}
    end
  end
  def handle_info({:late, key, pid}, runs) do
    late = match?({_, :running, ^pid, _}, runs[key])
    {:noreply, if(late, do: stop(runs, key, {:refused, 504, "deadline_exceeded", "it did not end in time"}), else: runs)}
  end
  def handle_info({:forget, key}, runs), do: {:noreply, Map.delete(runs, key)}

  defp stop(runs, key, answer) do
    {{_, :running, pid, callers}, rest} = Map.pop(runs, key)
    Process.exit(pid, :kill)
    Enum.each(callers, &GenServer.reply(&1, answer))
    rest
  end

  defp execute(request) do
    started = System.monotonic_time(:millisecond)
    Process.put(:reports, [])
    {outcome, rest} =
      try do
        report = &Process.put(:reports, [&1 | Process.get(:reports)])
        {"SUCCEEDED", %{prediction: Program.run(request["predictors"], request["inputs"] || %{}, report)}}
      rescue
        error -> {"PROGRAM_FAILURE", %{failure: %{type: inspect(error.__struct__), message: Exception.message(error)}}}
      catch
        :throw, {:unavailable, why, permanent} ->
          {"INFRASTRUCTURE_FAILURE", %{failure: %{type: "LMUnavailable", message: why, permanent: permanent}}}
        _, reason -> {"PROGRAM_FAILURE", %{failure: %{type: "throw", message: inspect(reason, limit: 50)}}}
      end
    reports = Enum.reverse(Process.get(:reports))
    sum = fn name -> reports |> Enum.map(&Map.get(&1, name, 0)) |> Enum.sum() end
    Map.merge(rest, %{key: request["key"], outcome: "OUTCOME_" <> outcome, codeVersion: "1",
      trace: for(%{step: step} <- reports, do: step), cutOff: Enum.any?(reports, & &1[:cut_off]),
      usage: Map.new([:calls, :promptTokens, :completionTokens], &{&1, sum.(&1)}),
      seconds: (System.monotonic_time(:millisecond) - started) / 1000})
  end
end
