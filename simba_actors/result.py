"""The result of a run."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import cloudpickle
import dspy

from simba_actors.observe.notebook import ProgramDiff, diff_html
from simba_actors.observe.notebook import shown as html
from simba_actors.observe.notebook import table as html_table
from simba_actors.observe.wording import duration, spent
from simba_actors.programs import Configuration, ConfigurationSpace
from simba_actors.runtime.extras import import_extra
from simba_actors.runtime.logs import visible
from simba_actors.runtime.threads import Threads
from simba_actors.search.quality import Outlook
from simba_actors.search.rollout import JSON, STUDENT, Usage
from simba_actors.store import Reader
from simba_actors.store.queries import pool_queries, run_queries, score_queries
from simba_actors.store.queries.score_queries import Standing
from simba_actors.store.records import Program, Run

RankedOn: TypeAlias = Literal["trainset", "valset"]

RUNNERS_UP_SHOWN = 2
"""Maximum number of finalists that a summary lists besides the winner and the student."""

CHANGES_SHOWN = 12
"""Maximum number of changed lines that a summary shows."""

LONGEST_CHANGE = 100
"""Maximum number of characters of a changed line that a summary shows."""


@dataclass(frozen=True, slots=True)
class Finalist:
    """One of the programs among which the winner was chosen."""

    number: int
    """The program's number in the pool; 0 is the student."""
    score: float
    """The mean score of its own rollouts with the student's LM: on the valset if it ran there."""
    low: float
    """Lower end of the 95 % interval of `score`."""
    high: float
    """Upper end of that interval."""
    rollouts: int
    """Number of rollouts behind `score`. The last rollouts of a run go to fewer and fewer programs, the best ones."""
    scores: dict[str, float] | None = None
    """The program's scores by objective; None if the run has no objectives."""

    def __str__(self) -> str:
        """Return the score with its interval, as in "0.918 (0.850 to 0.955) from 60 rollouts"."""
        return f"{self.score:.3f} ({self.low:.3f} to {self.high:.3f}) from {_counted(self.rollouts, 'rollout')}"


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
    pool: list[dict[str, Any]]
    """All programs of the run by number, each as a flat dict: the rows of `to_dataframe`."""
    changes: ProgramDiff
    """Unified diff of `program` against the student; empty if the student won. It is a string that notebooks show in
    color."""


@dataclass(frozen=True)
class OptimizerResult(_Programs):
    """The result of a finished run.

        result = await optimizer.result()
        result.program.save("best.json")
        print(result)                      # the scores of student and winner, usage and time, what changed
        table = result.to_dataframe()      # a row for each program of the run

    Every score is the mean of a program's own rollouts, with a 95 % interval: Wilson's for scores from 0 to 1.

    Besides its fields it has the attributes `program`, the best program, `changes`, a diff of its prompt against the
    student's, and `candidate_programs` and `trial_logs` as in `dspy.SIMBA`. `to_json()` returns the fields as plain
    JSON. A result can be pickled, with its programs and whatever they hold, such as an LM's key.
    """

    run_id: str
    """The run's name in the store."""
    score: float
    """The score of `program`: the mean of its own rollouts, as in `finalists[0]`."""
    finalists: tuple[Finalist, ...]
    """The programs among which the winner was chosen, the winner first. With `Pareto` objectives, those on the front.

    Programs that are clearly better than the student come first, then those that may not be. The order among each rests
    on all rollouts of the run, so a program whose few rollouts all went well can come after one with more behind it. On
    a valset, those that stayed in the finals for longer come first."""
    student: Finalist | None
    """The student; `finalists[0]` if it won, None if it was never run."""
    ranked_on: RankedOn
    """The set that the finalists' scores are from."""
    steps: int
    """The number of closed steps."""
    usage: Usage
    """Usage of the whole run, including earlier processes."""
    usage_by_lm: dict[str, Usage]
    """Usage by LM: "student", "teacher", the names of `sampling_lms`, and "prompt_model".

    Calls of rollouts and strategies that failed, were cut short, or still run are under "without_result"."""
    seconds: float
    """Uptime of the run in seconds, without pauses, including earlier processes."""
    reason: str
    """Why the search ended: the last step was reached, `stop_when` said so, or the budget ran out."""
    budget_reached: str | None = None
    """The cap of the budget that ended the run early, such as "max_calls"; None if none did. `program` is then the best
    one known so far. Starting the same run with a larger budget continues it."""
    outlook: Outlook | None = None
    """What the rest of the search was expected to add when it ended; None with `policy="dspy"`."""

    def __reduce__(self) -> tuple[Callable[[bytes], OptimizerResult], tuple[bytes]]:
        """Pickle with cloudpickle, which takes signatures written as strings and classes of a script or notebook.

        Raises:
            pickle.PicklingError: The student holds what can't be pickled, such as a lock or an open connection.
        """
        try:
            return _unpickled, (cloudpickle.dumps(self.__dict__),)
        except Exception as error:
            raise pickle.PicklingError(
                f"the programs of this result can't be pickled: {error}. Pickle result.to_json() instead, and save the "
                "program with result.program.save('best.json'), which student.load('best.json') reads"
            ) from error

    def __copy__(self) -> OptimizerResult:
        return _with_attributes(self.__dict__)

    def __deepcopy__(self, memo: dict[int, Any]) -> OptimizerResult:
        return _with_attributes(copy.deepcopy(self.__dict__, memo))

    def to_json(self) -> dict[str, JSON]:
        """Return the fields as plain JSON. To save the program, use `result.program.save`."""
        return {
            "run_id": self.run_id,
            "score": self.score,
            "finalists": [_finalist_json(each) for each in self.finalists],
            "student": None if self.student is None else _finalist_json(self.student),
            "ranked_on": self.ranked_on,
            "steps": self.steps,
            "usage": self.usage.to_json(),
            "usage_by_lm": {lm: usage.to_json() for lm, usage in self.usage_by_lm.items()},
            "seconds": self.seconds,
            "reason": self.reason,
            "budget_reached": self.budget_reached,
            "outlook": None if self.outlook is None else {"gain": self.outlook.gain, "rollouts": self.outlook.left},
        }

    def to_dataframe(self) -> Any:
        """Return a pandas DataFrame with a row for each program of the run, by number.

            result.to_dataframe().sort_values(["rank", "score"], ascending=[True, False])  # the winner first

        Its columns are program, parents and strategy; step, counted from 0, and -1 for the student; rank, for finalists
        (1 is the winner); score, the mean of the program's own rollouts, with low and high, its 95 % interval, and the
        number of rollouts.
        Then come the parts of the program: "<predictor>.instructions" as text, "<predictor>.demos" as a list of dicts,
        and LM settings. Runs with objectives also have "score.<objective>" for finalists.

        Raises:
            MissingExtraError: pandas is not installed; the extra `dataframe` installs it.
        """
        pandas = import_extra("pandas", extra="dataframe", user="to_dataframe")
        return pandas.DataFrame(self.pool)

    def summary(self) -> str:
        """Return the findings and the usage of the run as text, which `print(result)` shows.

        It has the student's score and the winner's with their 95 % intervals and the rollouts behind them, the calls,
        tokens, cost and time of the run, and what changed in the prompt. What an LM wrote is shown without control
        characters.
        """
        lines = [
            f"run {self.run_id!r}: {_counted(self.steps, 'step')}, {self.reason}",
            *([f"student:    {self.student or 'not run'}"] if self.finalists[0].number != STUDENT else []),
            f"winner:     {self.finalists[0]}, {self._winner()}",
            *(f"runner-up:  {each}, program {each.number}" for each in self._runners_up()),
            *(f"order:      {reason}" for reason in self._reasons_for_order()),
            f"scored on:  the {self.ranked_on}",
            f"spent:      {spent(self.usage)}, {duration(self.seconds)}",
        ]
        changed = [line for line in self.changes.splitlines() if line[1:] and not line.startswith(("--- ", "@@", " "))]
        if changed:
            lines.append("changed:")
            lines += [f"  {_shortened(line.removeprefix('+++ '))}" for line in changed[:CHANGES_SHOWN]]
            if len(changed) > CHANGES_SHOWN:
                lines.append(f"  … {len(changed) - CHANGES_SHOWN} more lines in result.changes")
        return "\n".join(lines)

    def _winner(self) -> str:
        number = self.finalists[0].number
        return f"program {number}" if number != STUDENT else "the student: no program is clearly better"

    def _runners_up(self) -> tuple[Finalist, ...]:
        return tuple(each for each in self.finalists[1:] if each.number != STUDENT)[:RUNNERS_UP_SHOWN]

    def _reasons_for_order(self) -> tuple[str, ...]:
        """Return why the winner comes before a runner-up with a higher score, if there is one."""
        winner = self.finalists[0]
        if winner.number == STUDENT or all(each.score <= winner.score for each in self._runners_up()):
            return ()
        if self.ranked_on == "valset":
            return ("programs that stayed in the finals for longer come first",)
        return ("by all rollouts of the run, since a high mean of few rollouts may be luck",)

    def __repr__(self) -> str:
        winner = self.finalists[0].number if self.finalists else None
        return f"OptimizerResult(run_id={self.run_id!r}, program={winner}, score={self.score:.3f}, steps={self.steps})"

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        measured = [("student", self.student), ("winner", self.finalists[0])]
        measured += [("runner-up", each) for each in self._runners_up()]
        rows = [
            (name, f"program {each.number}", each.score, _interval(each), each.rollouts)
            for name, each in measured
            if each is not None
        ]
        return (
            f"<p><b>{html(self.run_id)}</b>: {_counted(self.steps, 'step')}, {html(self.reason)}. "
            f"Scored on the {self.ranked_on}. Spent {html(spent(self.usage))}, {duration(self.seconds)}.</p>"
            + html_table(rows, ("", "program", "score", "95 % interval", "rollouts"))
            + "".join(f"<p>Order: {reason}.</p>" for reason in self._reasons_for_order())
            + diff_html(self.changes)
        )


def _unpickled(pickled: bytes) -> OptimizerResult:
    return _with_attributes(cloudpickle.loads(pickled))


def _with_attributes(attributes: Mapping[str, Any]) -> OptimizerResult:
    result = object.__new__(OptimizerResult)
    result.__dict__.update(attributes)
    return result


def _interval(scored: Finalist | Standing) -> str:
    return f"{scored.low:.3f} to {scored.high:.3f}"


def _finalist_json(finalist: Finalist) -> dict[str, JSON]:
    return {
        "number": finalist.number,
        "score": finalist.score,
        "low": finalist.low,
        "high": finalist.high,
        "rollouts": finalist.rollouts,
        "scores": cast("JSON", finalist.scores),
    }


def _shortened(line: str) -> str:
    shown = visible(line)
    return shown if len(shown) <= LONGEST_CHANGE else f"{shown[:LONGEST_CHANGE]}…"


async def read_result(reader: Reader, run_id: str, student: dspy.Module, space: ConfigurationSpace) -> OptimizerResult:
    """Read the result of a finished run from the store. Raise RunError if it has none yet."""
    run = await reader.run(run_id)
    ranking = run.ranking()
    stored = {program.number: program for program in await reader.programs(run_id)}
    logs, progress = await _trial_logs(reader, run_id, dict(ranking)), await reader.last_progress(run_id)
    scores = _scores_by_objective(run)
    standings = await reader.ask(score_queries.standings, run_id)
    finalists = tuple(_finalist(number, score, standings.get(number), scores) for number, score in ranking)
    scored_student = next((each for each in finalists if each.number == STUDENT), None)
    if scored_student is None and STUDENT in standings:
        scored_student = _finalist(STUDENT, standings[STUDENT].score, standings[STUDENT], scores)
    result = OptimizerResult(
        run_id=run_id,
        score=finalists[0].score,
        finalists=finalists,
        student=scored_student,
        ranked_on="valset" if await reader.ask(score_queries.validated, run_id) else "trainset",
        steps=len(logs),
        usage=await reader.usage(run_id),
        usage_by_lm=await reader.usage_by_lm(run_id),
        seconds=(await reader.spending(run_id)).seconds,
        reason=run.reason or "",
        budget_reached=cast("dict[str, Any]", run.result).get("cap"),
        outlook=None if progress is None else progress.outlook,
    )
    threads = Threads()
    try:
        programs = await threads.run(lambda: _programs(ranking, scores, stored, student, space))
    finally:
        await threads.close()
    attributes = {
        **programs,
        "trial_logs": logs,
        "pool": await _pool(reader, run_id, stored, standings, finalists),
    }
    for name, value in attributes.items():
        object.__setattr__(result, name, value)
    return result


def _programs(
    ranking: Sequence[tuple[int, float]],
    scores: Mapping[int, dict[str, float]],
    stored: Mapping[int, Program],
    student: dspy.Module,
    space: ConfigurationSpace,
) -> dict[str, Any]:
    """Return the result's programs and changes. With 800 predictors, making each program takes 0.2 seconds."""

    def configuration(number: int) -> Configuration:
        return Configuration.from_json(stored[number].configuration)

    def build(number: int) -> Any:
        program: Any = space.apply(configuration(number), student)
        program.simba_idx = number
        return program

    winner = ranking[0][0]
    return {
        "program": build(winner),
        "candidate_programs": [
            {"score": mean, "program": build(number), **({"scores": scores[number]} if number in scores else {})}
            for number, mean in ranking
        ],
        "changes": ProgramDiff(configuration(winner).diff(configuration(STUDENT))),
    }


def _finalist(number: int, score: float, known: Standing | None, scores: Mapping[int, dict[str, float]]) -> Finalist:
    """Return a finalist. Its `score` in the run's result is the mean of the rollouts that `known` is from.

    Earlier versions stored the search's estimate there; the mean of the rollouts counts.
    """
    if known is None:
        return Finalist(number, score, score, score, 0, scores.get(number))
    same = math.isclose(score, known.score, abs_tol=1e-9)
    return Finalist(number, score if same else known.score, known.low, known.high, known.rollouts, scores.get(number))


def _scores_by_objective(run: Run) -> dict[int, dict[str, float]]:
    """Return the finalists' scores by objective; empty if the run has no objectives."""
    return dict(cast("dict[str, Any]", run.result).get("scores") or [])


async def _pool(
    reader: Reader,
    run_id: str,
    programs: Mapping[int, Program],
    standings: Mapping[int, Standing],
    finalists: Sequence[Finalist],
) -> list[dict[str, Any]]:
    """Return a flat dict for each program."""
    ranks = {finalist.number: rank for rank, finalist in enumerate(finalists, 1)}
    rows: list[dict[str, Any]] = []
    for entry in await reader.ask(pool_queries.pool, run_id):
        known, rank = standings.get(entry.number), ranks.get(entry.number)
        by_objective = None if rank is None else finalists[rank - 1].scores
        rows.append(
            {
                "program": entry.number,
                "parents": list(entry.parents),
                "strategy": entry.strategy,
                "step": entry.step,
                "rank": rank,
                "score": None if known is None else known.score,
                "low": None if known is None else known.low,
                "high": None if known is None else known.high,
                "rollouts": 0 if known is None else known.rollouts,
                **{f"score.{name}": score for name, score in (by_objective or {}).items()},
                **cast("dict[str, Any]", programs[entry.number].configuration),
            }
        )
    return rows


async def _trial_logs(reader: Reader, run_id: str, final: dict[int, float]) -> dict[int, dict[str, Any]]:
    logs: dict[int, dict[str, Any]] = {}
    for step, winner, scores in await reader.ask(run_queries.step_results, run_id):
        logs[step] = {"winner": winner, "batch_scores": scores}
        if winner in final:
            logs[step]["train_score"] = final[winner]
    return logs


def _counted(number: int, noun: str) -> str:
    """Return the number with the noun in its form."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
