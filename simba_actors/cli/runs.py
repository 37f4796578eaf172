"""Commands about whole runs, and the check of the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from simba_actors.cli.arguments import DEFAULT_STORE, AsJSON, RunName, StorePath, check_words, checked_number
from simba_actors.cli.output import local_time, print_json, print_table, print_text, run, score
from simba_actors.observe.wording import duration, spending, step_shown
from simba_actors.store import Reader
from simba_actors.store.queries import lookup, rollout_queries, run_queries, score_queries
from simba_actors.store.queries.run_queries import EstimateKind, RunSummary, StepScores

ESTIMATES: tuple[EstimateKind, ...] = ("TrendEstimated", "OutlookEstimated", "BudgetForecast")

ERRORS_SHOWN = 10
"""Maximum number of different errors that `show` prints."""

STEPS_SHOWN = 20
"""Maximum number of steps that `show` prints by default."""

FIRST_STEPS_SHOWN = 3
"""How many of them are the first ones, if there is room for twice as many; the others are the newest."""


@dataclass(frozen=True, slots=True)
class RunScores:
    """Scores of one run, as printed by `show` and `compare`."""

    summary: RunSummary
    objectives: Mapping[int, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class RunReport:
    """Facts about one run, as printed by `show`."""

    scores: RunScores
    shown: Sequence[int]
    """The steps that are shown if they have scores."""
    steps: Sequence[StepScores]
    failures: Sequence[tuple[str, int, int]]
    trend: Mapping[str, Any] | None
    outlook: Mapping[str, Any] | None
    forecast: Mapping[str, Any] | None


def runs(store: StorePath = DEFAULT_STORE, as_json: AsJSON = False) -> None:
    """List the runs of a store, the newest first."""
    summaries = run(_summaries(store), as_json=as_json)
    if as_json:
        print_json([summary_json(summary) for summary in summaries])
        return
    if not summaries:
        print_text(f"{store} has no runs yet: start one with Optimizer.start(config)")
        return
    print_table(
        ("run", "status", "step", "programs", "best", "rollouts", "spent", "updated"),
        (
            (
                s.run.run_id,
                s.run.status if s.notice is None else f"{s.run.status} (open in no process)",
                f"{step_shown(s)}/{s.max_steps}",
                s.programs,
                _best(s),
                f"{s.rollouts_done:,}",
                spending(s.usage),
                local_time(s.run.updated),
            )
            for s in summaries
        ),
        numbers=("step", "programs", "rollouts", "spent"),
    )


def show(
    run_name: RunName = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            help="Maximum number of steps.",
            show_default=f"{STEPS_SHOWN}, with --json all",
            min=1,
            callback=checked_number,
        ),
    ] = None,
    store: StorePath = DEFAULT_STORE,
    as_json: AsJSON = False,
) -> None:
    """Show a run: its best program against the student, its settings, its steps and the errors of failed rollouts."""
    report = run(_report(store, run_name, limit if as_json else limit or STEPS_SHOWN), as_json=as_json)
    if as_json:
        print_json(
            {
                **scores_json(report.scores),
                "trend": report.trend,
                "outlook": report.outlook,
                "forecast": report.forecast,
                "steps": [asdict(step) for step in report.steps],
                "failures": [{"error": e, "rollouts": n, "program": p} for e, n, p in report.failures],
            }
        )
        return
    _print_report(report)


def compare(
    first: Annotated[str, typer.Argument(metavar="RUN", help="A run, as for `show`.")],
    second: Annotated[str, typer.Argument(metavar="OTHER_RUN", help="The run to compare it with.")],
    store: StorePath = DEFAULT_STORE,
    as_json: AsJSON = False,
) -> None:
    """Compare two runs: scores with intervals, cost, and the settings that differ."""
    check_words([first, second])
    reports = run(_scores(store, [first, second]), as_json=as_json)
    settings = [dict(_settings(report.summary)) for report in reports]
    differing = [
        name for name in dict.fromkeys([*settings[0], *settings[1]]) if len({s.get(name) for s in settings}) > 1
    ]
    if as_json:
        print_json(
            {
                "runs": [scores_json(report) for report in reports],
                "differing_settings": {name: [s.get(name) for s in settings] for name in differing},
            }
        )
        return
    _print_standings(reports)
    print_text()
    print_table(
        ("", *(report.summary.run.run_id for report in reports)),
        [
            ("status", *(report.summary.run.status for report in reports)),
            ("steps closed", *(report.summary.steps_closed for report in reports)),
            ("programs", *(report.summary.programs for report in reports)),
            ("rollouts", *(f"{report.summary.rollouts_done:,}" for report in reports)),
            ("LM calls", *(f"{report.summary.usage.calls:,}" for report in reports)),
            ("spent", *(spending(report.summary.usage) for report in reports)),
            *((name, *(s.get(name, "") for s in settings)) for name in differing),
        ],
    )


def fork(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="The run to copy, as for `show`.")],
    at: Annotated[int, typer.Option("--at", help="Number of steps to copy.", callback=checked_number)],
    name: Annotated[str, typer.Option("--as", help="The new run's name.")],
    store: StorePath = DEFAULT_STORE,
    as_json: AsJSON = False,
) -> None:
    """Copy a run's first steps as a new run, to continue from there."""
    check_words([run_name, name])
    source = run(_fork(store, run_name, at, name), as_json=as_json)
    if as_json:
        print_json({"run_id": name, "forked_from": source, "steps": at})
    else:
        print_text(f"{name}: the first {at} steps of {source}; start it with run_id={name!r} to continue")


def doctor(store: StorePath = DEFAULT_STORE, as_json: AsJSON = False) -> None:
    """Check a store: the file itself, and whether its contents are consistent. Exits with 1 if they are not.

    Scores of live calls have no checksum: one that was changed is found only if it is no score any more.
    """
    from simba_actors.store.doctor import check

    findings = run(check(store), as_json=as_json)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            detail = f": {finding.detail}" if finding.detail else ""
            print_text(f"{'ok ' if finding.ok else 'BAD'}  {finding.what}{detail}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


async def _summaries(store: Path) -> list[RunSummary]:
    async with await Reader.open(store) as queries:
        return await queries.ask(run_queries.summaries)


async def _report(store: Path, name: str | None, limit: int | None) -> RunReport:
    async with await Reader.open(store) as queries:
        run_id = await queries.ask(lookup.find_run_id, name)
        scores = await _scores_of(queries, run_id)
        shown = _steps_shown(scores.summary.steps_opened, limit)
        return RunReport(
            scores,
            shown,
            await queries.ask(run_queries.step_scores, run_id, shown),
            await queries.ask(rollout_queries.failures, run_id),
            *[await queries.ask(run_queries.latest_estimate, run_id, kind) for kind in ESTIMATES],
        )


async def _scores(store: Path, names: Sequence[str]) -> list[RunScores]:
    async with await Reader.open(store) as queries:
        return [await _scores_of(queries, await queries.ask(lookup.find_run_id, name)) for name in names]


async def _scores_of(queries: Reader, run_id: str) -> RunScores:
    return RunScores(
        await queries.ask(run_queries.summary, run_id), await queries.ask(score_queries.objective_scores, run_id)
    )


def _steps_shown(steps: int, limit: int | None) -> Sequence[int]:
    """Return `limit` of a run's steps: the first few, if there is room for them, and the newest."""
    if limit is None or steps <= limit:
        return range(steps)
    first = FIRST_STEPS_SHOWN if limit > 2 * FIRST_STEPS_SHOWN else 0
    return [*range(first), *range(steps - limit + first, steps)]


async def _fork(store: Path, name: str, at: int, new_name: str) -> str:
    from simba_actors.store.forking import fork

    async with await Reader.open(store) as queries:
        run_id = await queries.ask(lookup.find_run_id, name)
    await fork(store, run_id, at=at, new_run_id=new_name)
    return run_id


def summary_json(summary: RunSummary) -> dict[str, Any]:
    run_ = summary.run
    return {
        "run_id": run_.run_id,
        "status": run_.status,
        "reason": run_.reason,
        "process": summary.process,
        "created": run_.created,
        "updated": run_.updated,
        "settings": dict(run_.settings),
        "max_steps": summary.max_steps,
        "steps_closed": summary.steps_closed,
        "programs": summary.programs,
        "best": None if summary.best is None else asdict(summary.best),
        "student": None if summary.student is None else asdict(summary.student),
        "rollouts_done": summary.rollouts_done,
        "rollouts_planned": summary.rollouts_planned,
        "rollouts_failed": summary.rollouts_failed,
        "usage": asdict(summary.usage),
    }


def scores_json(scores: RunScores) -> dict[str, Any]:
    return {
        **summary_json(scores.summary),
        "objectives": {str(number): dict(own) for number, own in scores.objectives.items()},
    }


def trend_text(trend: Mapping[str, Any]) -> str:
    """Return a trend in one line, such as "improving, +0.012 a step (+0.004 to +0.020)"."""
    return "{direction}, {slope:+.3f} a step ({low:+.3f} to {high:+.3f})".format_map(trend)


def forecast_text(forecast: Mapping[str, Any]) -> str:
    """Return a forecast in one line, such as "2,960 calls, 712,000 tokens, $0.1200, 4:10"."""
    parts = [f"{forecast['calls']:,} calls"]
    if forecast["tokens"] is not None:
        parts.append(f"{forecast['tokens']:,} tokens")
    if forecast["cost"] is not None:
        parts.append(f"${forecast['cost']:.4f}")
    if forecast.get("seconds") is not None:
        parts.append(duration(forecast["seconds"]))
    return ", ".join(parts)


def _print_report(report: RunReport) -> None:
    summary, objectives = report.scores.summary, report.scores.objectives
    reason = f", {summary.run.reason}" if summary.run.reason else ""
    print_text(f"{summary.run.run_id}: {summary.run.status}{reason}")
    if summary.notice is not None:
        print_text(summary.notice)
    print_text(
        f"step {step_shown(summary)}/{summary.max_steps}, {summary.programs} programs, "
        f"{summary.rollouts_done:,} of {summary.rollouts_planned:,} rollouts, {spending(summary.usage)}"
    )
    print_text()
    _print_standings([report.scores])
    if report.trend is not None:
        print_text(f"samples {trend_text(report.trend)}")
    if report.outlook is not None and report.outlook["calls"]:
        print_text("outlook {calls:,} more calls are expected to add {gain:.3f}".format_map(report.outlook))
    if report.forecast is not None and summary.run.status != "finished":
        print_text(f"forecast {forecast_text(report.forecast)} for the whole run")
    if objectives:
        print_text()
        _print_objectives(objectives)
    print_text()
    print_table(("setting", "value"), _settings(summary))
    print_text()
    _print_steps(report)
    if report.failures:
        print_text()
        _print_failures(report)


def _print_steps(report: RunReport) -> None:
    print_table(
        ("step", "sampled", "best of the step", "on its examples"),
        (
            (
                step.step + 1,
                score(step.sampled.mean if step.sampled else None),
                "" if step.best is None else f"program {step.best}",
                score(step.best_score.mean if step.best_score else None),
            )
            for step in report.steps
        ),
        numbers=("step", "sampled", "on its examples"),
    )
    opened = report.scores.summary.steps_opened
    left_out = opened - len(report.shown)
    if left_out:
        after = next(step for index, step in enumerate(report.shown) if step != index) + 1
        steps = "1 step is" if left_out == 1 else f"{left_out:,} steps are"
        print_text(f"\n{steps} left out before step {after:,}; --limit {opened} shows all")


def _print_failures(report: RunReport) -> None:
    summary = report.scores.summary
    print_text(f"{summary.rollouts_failed} rollouts failed (score 0):")
    for error, count, program in report.failures[:ERRORS_SHOWN]:
        print_text(f"  {count:>4}x {_first_line(error)} (program {program})")
    print_text(f"See them with: simba-actors failures {summary.run.run_id} {report.failures[0][2]} --failed")


def _print_standings(reports: Sequence[RunScores]) -> None:
    rows: list[tuple[str, str, str, str, int]] = []
    for report in reports:
        prefix = f"{report.summary.run.run_id} " if len(reports) > 1 else ""
        for kind, known in (("best", report.summary.best), ("student", report.summary.student)):
            if known is not None:
                name, interval = f"program {known.program}", f"{known.low:.3f} to {known.high:.3f}"
                rows.append((f"{prefix}{kind}", name, score(known.score), interval, known.rollouts))
    if rows:
        print_table(("", "program", "score", "95 % interval", "rollouts"), rows, numbers=("score", "rollouts"))
    else:
        print_text("no program has scores yet")


def _print_objectives(objectives: Mapping[int, Mapping[str, float]]) -> None:
    names = list(dict.fromkeys(name for scores in objectives.values() for name in scores))
    rows = (
        (f"program {number}", *(score(scores.get(name)) for name in names)) for number, scores in objectives.items()
    )
    print_table(("objective", *names), rows, numbers=names)


def _settings(summary: RunSummary) -> list[tuple[str, str]]:
    return [(name, str(value)) for name, value in summary.settings.items()]


def _first_line(text: str) -> str:
    return text.strip().split("\n")[0][:200]


def _best(summary: RunSummary) -> str:
    best = summary.best
    return "" if best is None else f"{best.score:.3f} (program {best.program})"
