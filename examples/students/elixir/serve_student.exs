# Serves the student to optimizers.
#
#     PORT=7000 OPENAI_API_KEY=… elixir serve_student.exs

Code.require_file("student.exs", __DIR__)
Code.require_file("door.exs", __DIR__)
{:ok, _} = Student.start_link([])
Door.listen(System.get_env("HOST", "127.0.0.1"), String.to_integer(System.get_env("PORT", "7000")), fn path, message ->
  case String.split(path, "/simba_actors.bridge.Student/") do
    [_, method] -> Student.call(method, message)
    _ -> {:refused, 501, "unimplemented", "a student has the methods Describe, Run and Cancel"}
  end
end)
