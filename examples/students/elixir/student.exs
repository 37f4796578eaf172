for file <- ["program.exs", "json_server.exs"], do: Code.require_file(file, __DIR__)

defmodule Student do
  @moduledoc "Answers the calls of `bridge.proto`. A Run is a process, named by its key, that knows its reply for ten minutes."
  use GenServer

  def call("Describe", request) do
    about = %{name: "HintAndAnswer", summary: "Finds a hint, then the answer.", codeVersion: "1", maxConcurrency: 100}
    parts = %{major: 1, inputs: [%{name: "question", schema: %{type: "string"}}], predictors: Program.predictors()}
    if request["majors"] in [nil, []] or 1 in request["majors"], do: {:ok, Map.merge(about, parts)}, else: other_version()
  end
  def call("Run", %{"major" => major}) when major != 1, do: other_version()
  def call("Run", request) do
    {key, states, names} = {request["key"], request["predictors"], Enum.map(Program.predictors(), & &1.name)}
    cond do
      not (is_binary(key) and key =~ ~r/^[A-Za-z0-9-]{1,64}$/) -> invalid("a key has 1 to 64 letters, digits and hyphens")
      not (is_map(states) and is_map(request["inputs"] || %{})) -> invalid("predictors and inputs must be objects")
      Enum.sort(Map.keys(states)) != Enum.sort(names) -> invalid("the predictors are #{Enum.join(names, ", ")}")
      Enum.any?(Map.values(states), &(&1["model"]["name"] not in [nil, ""])) -> invalid("there are no other models")
      true -> run(request)
    end
  end
  def call("Cancel", request), do: {:ok, %{found: cancel(request["key"])}}
  def call(_, _), do: {:refused, 501, "unimplemented", "the methods are Describe, Run and Cancel"}

  defp invalid(why), do: {:refused, 400, "invalid_argument", why}
  defp other_version, do: {:refused, 400, "failed_precondition", "this student speaks version 1"}
  defp name(key), do: {:global, {__MODULE__, key}}

  defp run(%{"key" => key} = request) do
    {_, run} = with {:error, known} <- GenServer.start(__MODULE__, nil, name: name(key)), do: known
    content = {request["predictors"], request["inputs"]}
    GenServer.call(run, {:run, content, request}, ceil(1000 * min(request["timeoutSeconds"] || 3600, 3600)))
  catch
    :exit, why ->
      cancel(key)
      {:refused, 504, "deadline_exceeded", "the Run ended early: #{inspect(elem(why, 0))}"}
  end

  defp cancel(key) do
    run = GenServer.whereis(name(key))
    run != nil and GenServer.call(run, :cancel)
  end

  # The state is nil, then {content, callers}, then {content, reply}.
  def init(nil), do: {:ok, nil}
  def handle_call(:cancel, _, {_, callers} = state) when is_list(callers), do: {:stop, :shutdown, true, state}
  def handle_call(:cancel, _, state), do: {:reply, false, state}
  def handle_call({:run, content, request}, caller, nil) do
    run = self()
    spawn_link(fn -> GenServer.cast(run, {:ended, execute(request)}) end)
    {:noreply, {content, [caller]}}
  end
  def handle_call({:run, content, _}, caller, {content, callers}) when is_list(callers),
    do: {:noreply, {content, [caller | callers]}}
  def handle_call({:run, content, _}, _, {content, reply} = state), do: {:reply, {:ok, reply}, state}
  def handle_call({:run, _, _}, _, state), do: {:reply, {:refused, 409, "already_exists", "that key is taken"}, state}

  def handle_cast({:ended, reply}, {content, callers}) do
    Enum.each(callers, &GenServer.reply(&1, {:ok, reply}))
    Process.send_after(self(), :forget, if(reply.outcome == "OUTCOME_INFRASTRUCTURE_FAILURE", do: 0, else: 600_000))
    {:noreply, {content, reply}}
  end
  def handle_info(:forget, state), do: {:stop, :normal, state}

  defp execute(request) do
    started = System.monotonic_time(:millisecond)
    done = &Process.put(:done, [&1 | Process.get(:done, [])])
    {outcome, rest} =
      try do
        {"SUCCEEDED", %{prediction: Program.run(request["predictors"], request["inputs"] || %{}, done)}}
      rescue
        error -> {"PROGRAM_FAILURE", %{failure: %{type: inspect(error.__struct__), message: Exception.message(error)}}}
      catch
        {:unavailable, failure} -> {"INFRASTRUCTURE_FAILURE", %{failure: failure}}
      end
    did = Enum.reverse(Process.get(:done, []))
    Map.merge(rest, %{key: request["key"], outcome: "OUTCOME_" <> outcome, codeVersion: "1",
      trace: for(%{step: step} <- did, do: step), cutOff: Enum.any?(did, & &1[:cut_off]),
      usage: for(n <- [:calls, :promptTokens, :completionTokens], into: %{}, do: {n, Enum.sum(Enum.map(did, &(&1[n] || 0)))}),
      seconds: (System.monotonic_time(:millisecond) - started) / 1000})
  end
end

[host, token] = [System.get_env("HOST", "127.0.0.1"), System.get_env("SIMBA_STUDENT_TOKEN", "")]
JSONServer.listen(host, System.get_env("PORT", "7000"), fn path, headers, message ->
  is_known = if token == "", do: host == "127.0.0.1", else: headers["authorization"] == "Bearer " <> token
  cond do
    not is_known -> {:refused, 401, "unauthenticated", "the token is wrong, or SIMBA_STUDENT_TOKEN is not set here"}
    headers["origin"] -> {:refused, 403, "permission_denied", "web pages may not call a student"}
    true -> path |> String.split("/simba_actors.bridge.Student/") |> List.last() |> Student.call(message)
  end
end)
