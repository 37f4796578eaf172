"""What an optimization found, and where it stands."""

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
    """A program that the winner was chosen from."""

    number: int
    """Its number in the pool."""
    score: float
    """Its mean score by all that the run knows."""
    scores: dict[str, float] | None = None
    """Its scores by name, if the run has objectives."""


class _Programs:
    """What a result has beside its fields: programs are no data, and the logs of a long run are long."""

    program: dspy.Module
    """A copy of the student with the best configuration."""
    candidate_programs: list[dict[str, Any]]
    """All finalists as `{"score": …, "program": …}`, the winner first; with `scores` by name if it has
    objectives. The adaptive policy lets a program win only if it is better than the student with a chance of 0.9."""
    trial_logs: dict[int, dict[str, Any]]
    """For each step its `winner`, the `batch_scores` of its candidates, and the winner's `train_score` if known."""


@dataclass(frozen=True)
class OptimizerResult(_Programs):
    """The end of a run.

        result = await optimizer.result()
        result.program.save("best.json")
        print(result)

    Beside the fields it has `program`, the best one, and `candidate_programs` and `trial_logs` as `dspy.SIMBA` has
    them. `to_json()` returns the fields as plain JSON.
    """

    run_id: str
    """The run's name in the store."""
    score: float
    """The mean score of `program`."""
    finalists: tuple[Finalist, ...]
    """The programs that the winner was chosen from, best first. With `Pareto` objectives, those of the front."""
    steps: int
    """The number of closed steps."""
    usage: Usage
    """What the whole run used, over all its lives."""
    usage_by_lm: dict[str, Usage]
    """The same by "student", "teacher", the names of `sampling_lms`, and "prompt_model"."""
    reason: str
    """What ended the search: its last step, a stopper, or the budget."""
    budget_reached: str | None = None
    """The cap of the budget that ended the run early, if one did. `program` is then the best that was known by then,
    and the same run continues when it is started with a larger budget."""

    def to_json(self) -> dict[str, JSON]:
        """Return the fields as plain JSON. Programs are saved by `result.program.save`."""
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
    """Where a run stands. As a dataclass and as `to_json()` it takes a few KB however long the run is."""

    run_id: str
    """The run's name in the store."""
    status: RunStatus
    """See `simba_actors.team.run_state` for how a run gets from one status to another."""
    reason: str | None
    """Why it is waiting, paused, has failed or has finished."""
    steps_closed: int
    """The number of closed steps."""
    programs: int
    """The number of programs in the pool, the student included."""
    best: tuple[int, float] | None
    """The number and score of the program that won or, before that, of the one that seems best by all that is known."""
    rollouts: int
    """The number of rollouts with a result."""
    restarts: dict[str, int]
    """How often each actor was restarted in this process."""
    progress: Progress | None
    """What the run had found and used when it closed its last step; None before the first."""
    usage_by_lm: dict[str, Usage]
    """What the run has used, by "student", "teacher", the names of `sampling_lms`, and "prompt_model"."""

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
