# Serves the program to its users, with what was optimized. It follows a channel of a store that `simba-actors serve
# --channels` makes available, as `channels.proto` documents, and changes within a second of a publication.
#
#     STORE=http://127.0.0.1:8642 CHANNEL=default CACHE=known.json PORT=8000 elixir follower.exs
#     curl -d '{"question": "What is 1 + 1?"}' http://127.0.0.1:8000

for file <- ["program.exs", "json_server.exs"], do: Code.require_file(file, __DIR__)

defmodule Follower do
  @moduledoc """
  Knows what serves. A request never waits for the store: until it has answered, the program serves as it is in its code.
  """
  use GenServer

  def start_link, do: GenServer.start_link(__MODULE__, "", name: __MODULE__)

  @doc "Return the version that serves, with the states of its predictors."
  def known, do: :persistent_term.get(__MODULE__)

  def init(tag) do
    :persistent_term.put(__MODULE__, {0, Map.new(Program.predictors(), &{&1.name, %{"instructions" => &1.instructions}})})
    load()
    {:ok, {tag, :fine}, {:continue, :get}}
  end

  def handle_continue(:get, state), do: handle_info(:get, state)

  def handle_info(:get, {tag, health}) do
    tag = get(tag)
    watch(tag)
    Process.send_after(self(), :get, 100)
    {:noreply, {tag, :fine}}
  rescue
    error ->
      if health == :fine, do: warn("the store can't be followed; what is known keeps serving", error)
      Process.send_after(self(), :get, 250 + :rand.uniform(1000))
      {:noreply, {tag, :outage}}
  end

  # The watch ends when there is something new, or after some seconds. It is only a hint: Get has the truth.
  defp watch(tag) do
    ask("/watch?etag=" <> tag, [])
  rescue
    _ -> Process.sleep(1000)
  end

  # Take up a new snapshot, if there is one, and return the tag of what is known.
  defp get(tag) do
    case ask("", if(tag == "", do: [], else: [{'if-none-match', '"#{tag}"'}])) do
      {304, _, _} -> tag
      {200, headers, snapshot} ->
        take(snapshot)
        save(snapshot)
        headers |> List.keyfind('etag', 0, {'etag', ''}) |> elem(1) |> to_string() |> String.replace(~r/^W\/|"/, "")
    end
  end

  defp ask(path, headers) do
    is_plain = &(&1 in ?a..?z or &1 in ?A..?Z or &1 in ?0..?9)
    channel = System.get_env("CHANNEL", "default") |> URI.encode(is_plain) |> String.replace("%", "~")
    url = "#{System.get_env("STORE", "http://127.0.0.1:8642")}/api/channels/#{channel}#{path}"
    token = System.get_env("SIMBA_TOKEN")
    headers = if token, do: [{'authorization', 'Bearer ' ++ to_charlist(token)} | headers], else: headers
    case :httpc.request(:get, {to_charlist(url), headers}, [timeout: 20_000] ++ LM.tls(), body_format: :binary) do
      {:ok, {{_, status, _}, answered, body}} when status in [200, 304] -> {status, answered, body}
      {:ok, {{_, status, _}, _, _}} -> raise "it answers #{status}"
      {:error, reason} -> raise inspect(reason)
    end
  end

  # Values are called "answer.instructions", "answer.demos", "answer.temperature" and so on.
  defp take(snapshot) do
    %{"current" => current, "configurations" => configurations} = :jiffy.decode(snapshot, [:return_maps, :use_nil])
    if current == nil, do: raise("nothing is published to the channel")
    values = configurations[to_string(current["version"])]
    states = Map.new(Program.predictors(), &{&1.name, state(&1.name, values)})
    :persistent_term.put(__MODULE__, {current["version"], states})
  end

  defp state(predictor, values) do
    own = for {name, value} <- values, [^predictor, attribute] <- [split(name)], value != nil, do: {attribute, value}
    {state, settings} = Map.split(Map.new(own), ["instructions", "demos"])
    if state["instructions"] == nil, do: raise("what is published is of another program: it has no #{predictor}")
    Map.put(state, "settings", settings)
  end

  defp split(name), do: String.split(name, ~r/\.(?=[^.]*$)/)

  # Keep the last known good snapshot for a start while the store is down.
  defp save(snapshot) do
    file = System.get_env("CACHE")
    if file do
      File.write!(file <> ".new", "")
      File.chmod!(file <> ".new", 0o600)
      File.write!(file <> ".new", sha256(snapshot) <> "\n" <> snapshot)
      File.rename!(file <> ".new", file)
    end
  rescue
    error -> warn("what is known can't be kept", error)
  end

  defp load do
    with file when file != nil <- System.get_env("CACHE"), {:ok, content} <- File.read(file) do
      [sum, snapshot] = String.split(content, "\n", parts: 2)
      if sum != sha256(snapshot), do: raise("its checksum is wrong")
      take(snapshot)
    end
  rescue
    error -> warn("the cache is ignored", error)
  end

  defp sha256(text), do: Base.encode16(:crypto.hash(:sha256, text), case: :lower)
  defp warn(what, error), do: IO.puts(:stderr, "#{what}: #{Exception.message(error)}")
end

for application <- [:inets, :ssl], do: {:ok, _} = Application.ensure_all_started(application)
{:ok, _} = Follower.start_link()
JSONServer.listen("127.0.0.1", System.get_env("PORT", "8000"), fn _, _, inputs ->
  {version, states} = Follower.known()
  try do
    {:ok, Map.put(Program.run(states, inputs, fn _ -> :ok end), "version", version)}
  rescue
    error -> {:refused, 500, "internal", Exception.message(error)}
  catch
    {:unavailable, failure} -> {:refused, 503, "unavailable", failure.message}
  end
end)
