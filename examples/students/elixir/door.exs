# A door of JSON over HTTP, with OTP's own parser of HTTP. Each connection has a process and one call.

defmodule Door do
  @largest 16 * 1024 * 1024

  @doc "Print the address and serve until the end. `answer` is called with the path and the JSON object of each POST."
  def listen(host, port, answer) do
    {:ok, ip} = :inet.parse_address(String.to_charlist(host))
    {:ok, socket} = :gen_tcp.listen(port, [:binary, packet: :http_bin, active: false, reuseaddr: true, backlog: 256, ip: ip])
    {:ok, bound} = :inet.port(socket)
    IO.puts("http://#{host}:#{bound}")
    accept(socket, answer)
  end

  defp accept(socket, answer) do
    {:ok, connection} = :gen_tcp.accept(socket)
    pid = spawn(fn -> receive do: (:yours -> serve(connection, answer)) end)
    :ok = :gen_tcp.controlling_process(connection, pid)
    send(pid, :yours)
    accept(socket, answer)
  end

  defp serve(connection, answer) do
    with {:ok, {:http_request, :POST, {:abs_path, path}, _}} <- :gen_tcp.recv(connection, 0, 30_000),
         {:ok, headers} <- headers(connection, %{}),
         {:ok, body} <- body(connection, headers) do
      send_answer(connection, checked(path, headers, body, answer))
    end
    :gen_tcp.close(connection)
  end

  defp headers(connection, known) do
    case :gen_tcp.recv(connection, 0, 30_000) do
      {:ok, {:http_header, _, name, _, value}} -> headers(connection, Map.put(known, String.downcase(to_string(name)), value))
      {:ok, :http_eoh} -> {:ok, known}
      other -> other
    end
  end

  defp body(connection, headers) do
    :ok = :inet.setopts(connection, packet: :raw)
    case Integer.parse(headers["content-length"] || "0") do
      {0, ""} -> {:ok, ""}
      {length, ""} when length in 1..@largest -> :gen_tcp.recv(connection, length, 30_000)
      {length, ""} when length > @largest -> skip(connection, length)
      _ -> {:ok, "?"}
    end
  end

  # The rest is read, so that the refusal arrives, but not kept.
  defp skip(_, left) when left <= 0, do: {:ok, :too_large}
  defp skip(connection, left) do
    with {:ok, chunk} <- :gen_tcp.recv(connection, min(left, 65_536), 30_000), do: skip(connection, left - byte_size(chunk))
  end

  defp checked(path, headers, body, answer) do
    token = System.get_env("SIMBA_STUDENT_TOKEN", "")
    cond do
      token != "" and headers["authorization"] != "Bearer " <> token ->
        {:refused, 401, "unauthenticated", "the token is missing or wrong"}
      Map.has_key?(headers, "origin") -> {:refused, 403, "permission_denied", "web pages may not call a student"}
      body == :too_large -> {:refused, 413, "invalid_argument", "a request has at most #{@largest} bytes"}
      true ->
        case decoded(body) do
          %{} = message -> answer.(path, message)
          _ -> {:refused, 400, "invalid_argument", "the body is not a JSON object"}
        end
    end
  end

  defp decoded(body) do
    :jiffy.decode(body, [:return_maps, :use_nil])
  rescue
    _ -> nil
  catch
    _, _ -> nil
  end

  defp send_answer(connection, answer) do
    {status, message} =
      case answer do
        {:ok, message} -> {200, message}
        {:refused, status, code, why} -> {status, %{code: code, message: why}}
      end
    json = :jiffy.encode(message, [:use_nil])
    later = if status == 429, do: "Retry-After: 0.5\r\n", else: ""
    :gen_tcp.send(connection, "HTTP/1.1 #{status} Status\r\nContent-Type: application/json\r\nConnection: close\r\n" <>
      later <> "Content-Length: #{IO.iodata_length(json)}\r\n\r\n")
    :gen_tcp.send(connection, json)
  end
end
