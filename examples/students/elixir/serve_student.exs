# Serves the student to optimizers.
#
#     PORT=7000 OPENAI_API_KEY=… elixir serve_student.exs

Code.require_file("student.exs", __DIR__)
Code.require_file("door.exs", __DIR__)
{:ok, _} = Student.start_link()
Door.listen(System.get_env("HOST", "127.0.0.1"), String.to_integer(System.get_env("PORT", "7000")), fn path, message ->
  path |> String.split("/simba_actors.bridge.Student/") |> List.last() |> Student.call(message)
end)
