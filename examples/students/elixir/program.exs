defmodule Program do
  @moduledoc "Finds a hint, then the answer. `states` has what an optimizer may change of each predictor."

  [question, hint, answer] = for name <- ~w(question hint answer), do: %{name: name, schema: %{type: "string"}}
  @predictors [
    %{name: "hint", instructions: "Give a hint that helps to answer the question.", inputs: [question], outputs: [hint]},
    %{name: "answer", instructions: "Answer the question.", inputs: [question, hint], outputs: [answer]}
  ]
  def predictors, do: @predictors

  @doc "Return the prediction. `done` is called with each step, and with what each LM call used."
  def run(states, %{"question" => question}, done) when is_binary(question) do
    hint = predict("hint", states, %{"question" => question}, done)
    predict("answer", states, Map.put(hint, "question", question), done)
  end

  defp predict(name, states, inputs, done) do
    predictor = Enum.find(@predictors, &(&1.name == name))
    [asked, outputs] = for fields <- [predictor.inputs, predictor.outputs], do: Enum.map(fields, & &1.name)
    state = states[name]
    wanted = "Respond with a JSON object that has the fields #{Enum.map_join(outputs, ",", &"`#{&1}`")}."
    shown = fn fields -> Enum.map_join(asked, &"[[ ## #{&1} ## ]]\n#{fields[&1]}\n\n") <> wanted end
    demos = Enum.flat_map(state["demos"] || [], &[user: shown.(&1), assistant: :jiffy.encode(Map.take(&1, outputs))])
    turns = [system: state["instructions"] || ""] ++ demos ++ [user: shown.(inputs)]
    reply = LM.complete(turns, state, done) |> :jiffy.decode([:return_maps]) |> Map.take(outputs)
    missing = Enum.reject(outputs, &is_binary(reply[&1]))
    if missing != [], do: raise("the LM's reply has no #{Enum.join(missing, ", ")}")
    done.(%{step: %{predictor: name, inputs: inputs, outputs: reply}})
    reply
  end
end

defmodule LM do
  @doc "Ask an LM that speaks OpenAI's protocol. Throw `{:unavailable, failure}` if it does not answer."
  def complete(turns, state, done) do
    url = System.get_env("OPENAI_BASE_URL", "https://api.openai.com/v1") <> "/chat/completions"
    key = {'authorization', 'Bearer #{System.get_env("OPENAI_API_KEY")}'}
    messages = for {role, text} <- turns, do: %{role: role, content: text}
    sampling = [temperature: state["model"]["temperature"], seed: state["model"]["rolloutId"]]
    prompt = %{model: System.get_env("STUDENT_MODEL", "gpt-5-mini"), messages: messages}
    chosen = sampling |> Enum.filter(&elem(&1, 1)) |> Map.new() |> Map.merge(state["settings"] || %{})
    request = {to_charlist(url), [key], 'application/json', :jiffy.encode(Map.merge(prompt, chosen))}
    case :httpc.request(:post, request, tls(), body_format: :binary) do
      {:ok, {{_, 200, _}, _, answer}} -> text(answer, done)
      {:ok, {{_, 400, _}, _, answer}} -> raise "the LM refuses the prompt: #{String.slice(answer, 0, 500)}"
      {:ok, {{_, status, _}, _, _}} -> unavailable("the LM answers #{status}", status in [401, 402, 403, 404])
      {:error, reason} -> unavailable("the LM can't be reached: #{inspect(reason)}")
    end
  end

  @doc "Options of a request that checks certificates, as OTP does by itself from version 26 on."
  def tls do
    names = [match_fun: :public_key.pkix_verify_hostname_match_fun(:https)]
    [ssl: [verify: :verify_peer, cacertfile: '/etc/ssl/certs/ca-certificates.crt', customize_hostname_check: names]]
  end

  defp text(answer, done) do
    %{"choices" => [choice | _]} = answer = :jiffy.decode(answer, [:return_maps, :use_nil])
    [input, output] = for name <- ["prompt_tokens", "completion_tokens"], do: answer["usage"][name] || 0
    done.(%{calls: 1, promptTokens: input, completionTokens: output, cut_off: choice["finish_reason"] == "length"})
    choice["message"]["content"]
  rescue
    _ -> unavailable("the LM's answer is not a completion")
  end

  defp unavailable(why, permanent \\ false), do: throw({:unavailable, %{type: "LM", message: why, permanent: permanent}})
end
