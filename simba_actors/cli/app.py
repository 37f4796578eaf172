"""All commands in one place."""

from __future__ import annotations

import typer

from simba_actors.cli import channels, doctoring, programs, runs, serving, watching

app = typer.Typer(
    name="simba-actors",
    help="Look at the runs of a store, live or afterwards, and act on them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.command("runs")(runs.runs)
app.command("show")(runs.show)
app.command("watch")(watching.watch)
app.command("fork")(runs.fork)
app.command("program")(programs.program)
app.command("lineage")(programs.lineage)
app.command("why")(programs.why)
app.command("export")(programs.export)
app.command("versions")(channels.versions)
app.command("publish")(channels.publish)
app.command("rollback")(channels.rollback)
app.command("prune")(channels.prune)
app.command("doctor")(doctoring.doctor)
app.command("serve")(serving.serve)
