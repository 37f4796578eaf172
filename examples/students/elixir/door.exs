# A door of JSON over HTTP, with OTP's own server, which calls `do/1` in a process of the connection's own.

defmodule Door do
  require Record
  Record.defrecordp(:mod, Record.extract(:mod, from_lib: "inets/include/httpd.hrl"))
  @largest 16 * 1024 * 1024

  @doc "Print the address and serve until the end. `answer` is called with the path and the JSON object of each POST."
  def listen(host, port, answer) do
    for application <- [:inets, :ssl], do: {:ok, _} = Application.ensure_all_started(application)
    :persistent_term.put(__MODULE__, answer)
    {:ok, ip} = :inet.parse_address(String.to_charlist(host))
    here = String.to_charlist(__DIR__)
    {:ok, server} =
      :inets.start(:httpd, port: port, bind_address: ip, server_name: 'student', server_root: here, document_root: here,
        modules: [__MODULE__], keep_alive: false)
    IO.puts("http://#{host}:#{:httpd.info(server)[:port]}")
    Process.sleep(:infinity)
  end

  def unquote(:do)(request) do
    headers = Map.new(mod(request, :parsed_header), fn {name, value} -> {to_string(name), to_string(value)} end)
    {status, message} =
      case checked(to_string(mod(request, :request_uri)), headers, IO.iodata_to_binary(mod(request, :entity_body))) do
        {:ok, message} -> {200, message}
        {:refused, status, code, why} -> {status, %{code: code, message: why}}
      end
    body = IO.iodata_to_binary(:jiffy.encode(message, [:use_nil]))
    later = if status == 429, do: ["retry-after": '0.5'], else: []
    head = [code: status, content_type: 'application/json', content_length: Integer.to_charlist(byte_size(body))] ++ later
    {:proceed, [{:response, {:response, head, body}}]}
  end

  defp checked(path, headers, body) do
    token = System.get_env("SIMBA_STUDENT_TOKEN", "")
    cond do
      token != "" and headers["authorization"] != "Bearer " <> token ->
        {:refused, 401, "unauthenticated", "the token is missing or wrong"}
      Map.has_key?(headers, "origin") -> {:refused, 403, "permission_denied", "web pages may not call a student"}
      byte_size(body) > @largest -> {:refused, 413, "invalid_argument", "a request has at most #{@largest} bytes"}
      true ->
        case decoded(body) do
          %{} = message -> :persistent_term.get(__MODULE__).(path, message)
          _ -> {:refused, 400, "invalid_argument", "the body is not a JSON object"}
        end
    end
  end

  defp decoded(body) do
    :jiffy.decode(body, [:return_maps, :use_nil])
  catch
    _, _ -> nil
  end
end
