"""The status of a run: where it stands."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from simba_actors.observe.notebook import shown as html
from simba_actors.observe.notebook import table as html_table
from simba_actors.observe.wording import spent
from simba_actors.search.progress import StepProgress
from simba_actors.search.rollout import JSON, Usage
from simba_actors.store.queries.score_queries import Standing
from simba_actors.store.records import RunStatus


@dataclass(frozen=True, slots=True)
class Status:
    """The status of a run, as returned by `Optimizer.status`. It takes a few KB, however long the run is.

    status = await optimizer.status()
    print(status.status, status.best, status.rollouts)
    """

    run_id: str
    """The run's name in the store."""
    status: RunStatus
    """"running"; "waiting": no LM call is answered, and calls are tried again; "paused", until `resume`; "finished",
    with a result; "failed": the metric or `stop_when` raised. `simba_actors.team.run_state` has the transitions."""
    reason: str | None
    """Why the run waits, is paused, has failed or has finished; None while it works."""
    steps_closed: int
    """The number of closed steps."""
    programs: int
    """The number of programs in the pool, including the student."""
    best: Standing | None
    """The score of the winner or, before there is one, of the program that seems best; None before any rollout has a
    result. It is the student as long as no program has a higher score."""
    student: Standing | None
    """The student's score. Like that of `best` it is the mean of its own rollouts, with a 95 % interval."""
    rollouts: int
    """The number of rollouts with a result."""
    restarts: dict[str, int]
    """Number of restarts of each actor in this process."""
    progress: StepProgress | None
    """Findings and usage at the end of the last closed step, without the earlier ones; None before the first."""
    usage_by_lm: dict[str, Usage]
    """Usage so far by LM: "student", "teacher", the names of `sampling_lms`, and "prompt_model".

    Calls of rollouts and strategies that failed, were cut short, or still run are under "without_result"."""

    def to_json(self) -> dict[str, JSON]:
        """Return the fields as plain JSON."""
        return {
            "run_id": self.run_id,
            "status": self.status,
            "reason": self.reason,
            "steps_closed": self.steps_closed,
            "programs": self.programs,
            "best": None if self.best is None else asdict(self.best),
            "student": None if self.student is None else asdict(self.student),
            "rollouts": self.rollouts,
            "restarts": dict(self.restarts),
            "progress": None if self.progress is None else self.progress.to_json(),
            "usage_by_lm": {lm: usage.to_json() for lm, usage in self.usage_by_lm.items()},
        }

    def _repr_html_(self) -> str:
        total = sum(self.usage_by_lm.values(), start=Usage())
        rows: list[tuple[str, object]] = [
            ("status", self.status if self.reason is None else f"{self.status}: {self.reason}"),
            ("steps closed", self.steps_closed),
            ("programs", self.programs),
            ("best", "" if self.best is None else f"{self.best}, program {self.best.program}"),
            ("student", self.student or ""),
            ("rollouts", self.rollouts),
            ("spent", spent(total)),
            *((f"{actor} restarts", count) for actor, count in self.restarts.items()),
        ]
        return f"<p><b>{html(self.run_id)}</b></p>" + html_table(rows)
