"""Commands about whole runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from simba_actors.cli.options import DEFAULT_STORE, AsJSON, RunId, StorePath
from simba_actors.cli.output import print_json, print_table, print_text, run, score
from simba_actors.observe.wording import spending, step_shown
from simba_actors.search.statistics.trend import Trend, trend_of
from simba_actors.store.forking import fork as fork_run
from simba_actors.store.queries import Queries, RunSummary, StepScores


def runs(store: StorePath = DEFAULT_STORE, as_json: AsJSON = False) -> None:
    """List the runs of a store, the newest first."""
    summaries = run(_summaries(store), as_json=as_json)
    if as_json:
        print_json([summary_json(summary) for summary in summaries])
        return
    print_table(
        ("run", "status", "step", "programs", "best", "rollouts", "spent", "updated"),
        (
            (
                s.run.run_id,
                s.run.status,
                f"{step_shown(s)}/{s.max_steps}",
                s.programs,
                _best(s),
                f"{s.rollouts_done:,}",
                spending(s.usage),
                _when(s.run.updated),
            )
            for s in summaries
        ),
    )


def show(run_id: RunId, store: StorePath = DEFAULT_STORE, as_json: AsJSON = False) -> None:
    """Show how far a run is, its steps and its settings."""
    summary, steps = run(_run_with_steps(store, run_id), as_json=as_json)
    if as_json:
        trend = sampled_trend(summary, steps)
        told = None if trend is None else {"direction": trend.direction, **asdict(trend)}
        print_json({**summary_json(summary), "trend": told, "steps": [asdict(step) for step in steps]})
        return
    print_text(f"{run_id}: {summary.run.status}" + (f", {summary.run.reason}" if summary.run.reason else ""))
    print_text(_progress(summary))
    print_text(f"best {_best(summary)}, student {_student(summary)}")
    if (trend := sampled_trend(summary, steps)) is not None:
        print_text(f"samples {trend}")
    print_text()
    print_table(
        ("step", "sampled", "best program", "score"),
        (
            (
                step.step + 1,
                score(step.sampled.mean if step.sampled else None),
                "" if step.best is None else step.best,
                score(step.best_score.mean if step.best_score else None),
            )
            for step in steps
        ),
    )


def fork(
    run_id: RunId,
    at: Annotated[int, typer.Option("--at", help="How many steps to copy.")],
    name: Annotated[str, typer.Option("--as", help="The new run's name.")],
    store: StorePath = DEFAULT_STORE,
    as_json: AsJSON = False,
) -> None:
    """Copy a run's first steps as a new run, to go on from there."""
    run(fork_run(store, run_id, at=at, new_run_id=name), as_json=as_json)
    if as_json:
        print_json({"run_id": name, "forked_from": run_id, "steps": at})
    else:
        print_text(f"{name}: the first {at} steps of {run_id}; start it with run_id={name!r} to go on")


async def _summaries(store: Any) -> list[RunSummary]:
    async with await Queries.open(store) as queries:
        return await queries.summaries()


async def _run_with_steps(store: Any, run_id: str) -> tuple[RunSummary, list[StepScores]]:
    async with await Queries.open(store) as queries:
        return await queries.summary(run_id), await queries.step_scores(run_id)


def summary_json(summary: RunSummary) -> dict[str, Any]:
    run_ = summary.run
    return {
        "run_id": run_.run_id,
        "status": run_.status,
        "reason": run_.reason,
        "created": run_.created,
        "updated": run_.updated,
        "settings": dict(run_.settings),
        "max_steps": summary.max_steps,
        "steps_closed": summary.steps_closed,
        "programs": summary.programs,
        "best": None if summary.best is None else {"program": summary.best[0], "score": summary.best[1]},
        "student": None if summary.student is None else asdict(summary.student),
        "rollouts_done": summary.rollouts_done,
        "rollouts_planned": summary.rollouts_planned,
        "usage": asdict(summary.usage),
    }


def sampled_trend(summary: RunSummary, steps: Sequence[StepScores]) -> Trend | None:
    """The trend of what the closed steps sampled, None while there are too few to tell."""
    sampled = [step.sampled for step in steps[: summary.steps_closed]]
    return trend_of([estimate.mean for estimate in sampled if estimate is not None])


def _progress(summary: RunSummary) -> str:
    return (
        f"step {step_shown(summary)}/{summary.max_steps}, {summary.programs} programs, "
        f"{summary.rollouts_done:,} of {summary.rollouts_planned:,} rollouts, {spending(summary.usage)}"
    )


def _best(summary: RunSummary) -> str:
    return "" if summary.best is None else f"{summary.best[1]:.3f} (program {summary.best[0]})"


def _student(summary: RunSummary) -> str:
    return "" if summary.student is None else f"{summary.student.mean:.3f}"


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
