# Serves the program to its users with what was optimized: it follows a channel of a store that
# `simba-actors serve --channels` makes available, and changes within a second of a publication.
#
#     STORE=http://127.0.0.1:8642 CHANNEL=default PORT=8000 elixir serve.exs
#     curl -d '{"question": "What is 1 + 1?"}' http://127.0.0.1:8000

defmodule Follower do
  @moduledoc """
  Follows a channel. A request never waits for it: until it has read anything, the program's own states serve.

  What it knows is in a table that requests read without asking it.
  """
  use GenServer

  def start_link(channel), do: GenServer.start_link(__MODULE__, channel, name: __MODULE__)

  @doc "Return the version and what a request runs with."
  def states do
    [{:known, version, current, canary}] = :ets.lookup(__MODULE__, :known)
    case canary do
      {share, states} -> if :rand.uniform() < share, do: {version, states}, else: {version, current}
      nil -> {version, current}
    end
  end

  @impl true
  def init(channel) do
    :ets.new(__MODULE__, [:named_table, read_concurrency: true])
    own = for {name, instructions, _, _} <- Program.predictors(), into: %{}, do: {name, %{"instructions" => instructions}}
    :ets.insert(__MODULE__, {:known, 0, own, nil})
    {:ok, {channel, ""}, {:continue, :get}}
  end

  @impl true
  def handle_continue(:get, state), do: look(state)
  @impl true
  def handle_info(:get, state), do: look(state)

  defp look({channel, etag}) do
    with {:ok, etag} <- get(channel, etag),
         # The watch ends when something has changed, or after some seconds. It is a hint: Get has the truth.
         {:ok, 200, _, _} <- request(channel <> "/watch?etag=" <> etag, []) do
      Process.send_after(self(), :get, 100)
      {:noreply, {channel, etag}}
    else
      _ ->
        Process.send_after(self(), :get, 250 + :rand.uniform(1000))
        {:noreply, {channel, etag}}
    end
  end

  defp get(channel, etag) do
    known = if etag == "", do: [], else: [{'if-none-match', '"#{etag}"'}]
    case request(channel, known) do
      {:ok, 304, _, _} -> {:ok, etag}
      {:ok, 200, headers, body} ->
        %{"current" => current, "canary" => canary, "configurations" => all} = :jiffy.decode(body, [:return_maps, :use_nil])
        states = fn publication -> states_of(all[Integer.to_string(publication["version"])]) end
        if current do
          share = canary && {canary["share"] || 0, states.(canary)}
          :ets.insert(__MODULE__, {:known, current["version"], states.(current), share})
        end
        {:ok, headers |> List.keyfind('etag', 0, {'etag', ''}) |> elem(1) |> to_string() |> String.replace("\"", "")}
      other -> other
    end
  end

  defp request(url, headers) do
    token = System.get_env("SIMBA_TOKEN", "")
    headers = if token == "", do: headers, else: [{'authorization', 'Bearer #{token}'} | headers]
    case :httpc.request(:get, {String.to_charlist(url), headers}, [timeout: 20_000], body_format: :binary) do
      {:ok, {{_, status, _}, answered, body}} -> {:ok, status, answered, body}
      error -> error
    end
  end

  # Sort "answer.instructions", "answer.demos" and "answer.temperature" by predictor.
  defp states_of(configuration) do
    Enum.reduce(configuration, %{}, fn {name, value}, states ->
      [attribute | path] = name |> String.split(".") |> Enum.reverse()
      predictor = path |> Enum.reverse() |> Enum.join(".")
      state = Map.get(states, predictor, %{"settings" => %{}})
      cond do
        attribute in ["instructions", "demos"] -> Map.put(states, predictor, Map.put(state, attribute, value))
        value == nil -> Map.put(states, predictor, state)
        true -> Map.put(states, predictor, put_in(state, ["settings", attribute], value))
      end
    end)
  end
end

Code.require_file("student.exs", __DIR__)
Code.require_file("door.exs", __DIR__)
{:ok, _} = Application.ensure_all_started(:inets)
{:ok, _} = Application.ensure_all_started(:ssl)
channel = System.get_env("STORE", "http://127.0.0.1:8642") <> "/api/channels/" <> URI.encode_www_form(System.get_env("CHANNEL", "default"))
{:ok, _} = Follower.start_link(channel)
Door.listen("127.0.0.1", String.to_integer(System.get_env("PORT", "8000")), fn _, inputs ->
  {version, states} = Follower.states()
  try do
    {:ok, Map.put(Program.run(states, inputs, fn _ -> :ok end), "version", version)}
  rescue
    error -> {:refused, 500, "internal", Exception.message(error)}
  catch
    _, reason -> {:refused, 503, "unavailable", inspect(reason)}
  end
end)
