"""What an optimization found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import dspy

from simba_actors.errors import RunError
from simba_actors.programs import Configuration, ConfigurationSpace
from simba_actors.search.trajectory import Usage
from simba_actors.store import Reader
from simba_actors.store.records import Run


@dataclass(frozen=True, slots=True)
class OptimizerResult:
    """The end of a run.

    `program` is a plain copy of the student with the best configuration, and `score` its mean. `candidate_programs` are
    all finalists as `{"score": …, "program": …}`, best first; where the run has objectives, with their `scores` by name
    too, and with `Pareto` those of the front alone. `trial_logs` maps each step to its winner and scores.
    `usage_by_lm` is the whole `usage` by "student", "teacher", the names of `sampling_lms`, and "prompt_model".
    `reason` says what ended the search: its last step, a stopper, or the budget. `budget_reached` names the cap of the
    budget that ended the run early, if one did: the program is then the best that was known by then, and the same run
    goes on when it is started with a larger budget.
    """

    run_id: str
    program: dspy.Module
    score: float
    candidate_programs: list[dict[str, Any]]
    trial_logs: dict[int, dict[str, Any]]
    usage: Usage
    usage_by_lm: dict[str, Usage]
    reason: str
    budget_reached: str | None = None


def ranking_of(run: Run) -> list[tuple[int, float]]:
    """The finalists of a run and their scores, the winner first. Raises RunError if it has no result yet."""
    if run.result is None:
        raise RunError(f"run {run.run_id!r} is {run.status}, and has no result yet: start it again to go on")
    return cast("list[tuple[int, float]]", cast("dict[str, Any]", run.result)["ranking"])


async def read_result(reader: Reader, run_id: str, student: dspy.Module, space: ConfigurationSpace) -> OptimizerResult:
    """The result of a finished run, from the store.

    Raises:
        RunError: It has none yet.
    """
    run = await reader.run(run_id)
    ranking = ranking_of(run)
    configurations = {p.number: Configuration.from_json(p.configuration) for p in await reader.programs(run_id)}

    def build(number: int) -> Any:
        program: Any = space.apply(configurations[number], student)
        program.simba_idx = number
        return program

    winner, score = ranking[0]
    return OptimizerResult(
        run_id,
        build(winner),
        score,
        [{"score": mean, "program": build(number), **_scores(run, number)} for number, mean in ranking],
        await _trial_logs(reader, run_id, dict(ranking)),
        await reader.usage(run_id),
        await reader.usage_by_lm(run_id),
        run.reason or "",
        cast("dict[str, Any]", run.result).get("cap"),
    )


def _scores(run: Run, number: int) -> dict[str, dict[str, float]]:
    """The program's scores by objective, where the run has several."""
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
