"""The result and the status of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import dspy

from simba_actors.programs import Configuration, ConfigurationSpace
from simba_actors.search.progress import Progress
from simba_actors.search.trajectory import JSON, Usage
from simba_actors.store import Reader
from simba_actors.store.records import Run, RunStatus


@dataclass(frozen=True, slots=True)
class Finalist:
    """One of the programs among which the winner was chosen."""

    number: int
    """The program's number in the pool."""
    score: float
    """The program's mean score, from all evidence of the run."""
    scores: dict[str, float] | None = None
    """The program's scores by objective; None if the run has no objectives."""


class _Programs:
    """Attributes of a result that are not dataclass fields, since they are programs or long logs."""

    program: dspy.Module
    """A copy of the student with the best configuration."""
    candidate_programs: list[dict[str, Any]]
    """All finalists as `{"score": …, "program": …}`, the winner first; also with `scores` if the run has objectives.
    With the adaptive policy, a program wins only if its chance of being better than the student is at least 0.9."""
    trial_logs: dict[int, dict[str, Any]]
    """A dict by step, with the step's `winner`, the `batch_scores` of its candidates and, if known, the winner's
    `train_score`."""


@dataclass(frozen=True)
class OptimizerResult(_Programs):
    """The result of a finished run.

        result = await optimizer.result()
        result.program.save("best.json")
        print(result)

    Besides its fields it has the attributes `program`, the best program, and `candidate_programs` and `trial_logs` as
    in `dspy.SIMBA`. `to_json()` returns the fields as plain JSON.
    """

    run_id: str
    """The run's name in the store."""
    score: float
    """The mean score of `program`."""
    finalists: tuple[Finalist, ...]
    """The programs among which the winner was chosen, best first. With `Pareto` objectives, those on the front."""
    steps: int
    """The number of closed steps."""
    usage: Usage
    """Usage of the whole run, including earlier processes."""
    usage_by_lm: dict[str, Usage]
    """Usage by LM: "student", "teacher", the names of `sampling_lms`, and "prompt_model"."""
    reason: str
    """Why the search ended: the last step was reached, `stop_when` said so, or the budget ran out."""
    budget_reached: str | None = None
    """The cap of the budget that ended the run early, such as "max_calls"; None if none did. `program` is then the best
    one known so far. Starting the same run with a larger budget continues it."""

    def to_json(self) -> dict[str, JSON]:
        """Return the fields as plain JSON. To save the program, use `result.program.save`."""
        return {
            "run_id": self.run_id,
            "score": self.score,
            "finalists": [
                {"number": each.number, "score": each.score, "scores": cast("JSON", each.scores)}
                for each in self.finalists
            ],
            "steps": self.steps,
            "usage": self.usage.to_json(),
            "usage_by_lm": {lm: usage.to_json() for lm, usage in self.usage_by_lm.items()},
            "reason": self.reason,
            "budget_reached": self.budget_reached,
        }

    def __repr__(self) -> str:
        winner = self.finalists[0].number if self.finalists else None
        return f"OptimizerResult(run_id={self.run_id!r}, program={winner}, score={self.score:.3f}, steps={self.steps})"

    def __str__(self) -> str:
        usage, best, shown = self.usage, self.finalists[:3], len(self.finalists)
        tokens = "unknown" if usage.tokens is None else f"{usage.tokens:,}"
        cost = "unknown" if usage.cost is None else f"${usage.cost:.4f}"
        lines = [
            f"run {self.run_id!r}: {self.steps} steps",
            f"score:     {self.score:.3f}",
            f"ended by:  {self.reason}",
            f"calls:     {usage.calls:,}",
            f"tokens:    {tokens}",
            f"cost:      {cost}",
            f"finalists: {shown}",
            *(f"  program {each.number}: {each.score:.3f}" for each in best),
        ]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Status:
    """The status of a run. It takes a few KB, however long the run is."""

    run_id: str
    """The run's name in the store."""
    status: RunStatus
    """The run's status. `simba_actors.team.run_state` describes the transitions."""
    reason: str | None
    """Why the run waits, is paused, has failed or has finished; None while it works."""
    steps_closed: int
    """The number of closed steps."""
    programs: int
    """The number of programs in the pool, including the student."""
    best: tuple[int, float] | None
    """The number and score of the winner or, before there is one, of the program that seems best; None before the first
    step is closed."""
    rollouts: int
    """The number of rollouts with a result."""
    restarts: dict[str, int]
    """Number of restarts of each actor in this process."""
    progress: Progress | None
    """Findings and usage at the end of the last closed step; None before the first."""
    usage_by_lm: dict[str, Usage]
    """Usage so far by LM: "student", "teacher", the names of `sampling_lms`, and "prompt_model"."""

    def to_json(self) -> dict[str, JSON]:
        """Return the fields as plain JSON."""
        return {
            "run_id": self.run_id,
            "status": self.status,
            "reason": self.reason,
            "steps_closed": self.steps_closed,
            "programs": self.programs,
            "best": None if self.best is None else list(self.best),
            "rollouts": self.rollouts,
            "restarts": dict(self.restarts),
            "progress": None if self.progress is None else self.progress.to_json(),
            "usage_by_lm": {lm: usage.to_json() for lm, usage in self.usage_by_lm.items()},
        }


async def read_result(reader: Reader, run_id: str, student: dspy.Module, space: ConfigurationSpace) -> OptimizerResult:
    """Read the result of a finished run from the store. Raise RunError if it has none yet."""
    run = await reader.run(run_id)
    ranking = run.ranking()
    configurations = {p.number: Configuration.from_json(p.configuration) for p in await reader.programs(run_id)}

    def build(number: int) -> Any:
        program: Any = space.apply(configurations[number], student)
        program.simba_idx = number
        return program

    logs = await _trial_logs(reader, run_id, dict(ranking))
    winner, score = ranking[0]
    result = OptimizerResult(
        run_id=run_id,
        score=score,
        finalists=tuple(Finalist(number, mean, _scores(run, number).get("scores")) for number, mean in ranking),
        steps=len(logs),
        usage=await reader.usage(run_id),
        usage_by_lm=await reader.usage_by_lm(run_id),
        reason=run.reason or "",
        budget_reached=cast("dict[str, Any]", run.result).get("cap"),
    )
    candidates = [{"score": mean, "program": build(number), **_scores(run, number)} for number, mean in ranking]
    for name, value in (("program", build(winner)), ("candidate_programs", candidates), ("trial_logs", logs)):
        object.__setattr__(result, name, value)
    return result


def _scores(run: Run, number: int) -> dict[str, dict[str, float]]:
    """Return the program's scores by objective, if the run has objectives."""
    stored = cast("dict[str, Any]", run.result).get("scores")
    return {} if stored is None else {"scores": dict(stored)[number]}


async def _trial_logs(reader: Reader, run_id: str, final: dict[int, float]) -> dict[int, dict[str, Any]]:
    logs: dict[int, dict[str, Any]] = {}
    for step in await reader.steps(run_id):
        if step.result is None:
            continue
        stored = cast("dict[str, Any]", step.result)
        logs[step.step] = {"winner": stored["winner"], "batch_scores": dict(stored["scores"])}
        if stored["winner"] in final:
            logs[step.step]["train_score"] = final[stored["winner"]]
    return logs
