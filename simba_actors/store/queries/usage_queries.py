"""Queries about usage: the calls, tokens, dollars and seconds of a run, added up in SQL."""

from __future__ import annotations

import sqlite3
from typing import Any

from simba_actors.search.rollout import Usage
from simba_actors.store.records import Spending

PROMPT_MODEL = "prompt_model"
"""Name of the LM that writes rules, used alongside the names of the model pool."""

WITHOUT_RESULT = "without_result"
"""Name for the usage of calls without a stored result: of rollouts that failed, were cut short, or still run."""

TOTAL_USAGE = (
    "TOTAL(calls), TOTAL(prompt_tokens), TOTAL(completion_tokens), TOTAL(cost), TOTAL(tokens_unknown), "
    "TOTAL(cost_unknown)"
)
"""Columns from which `usage_of_totals` makes a Usage."""

ROLLOUT_SUMS = (
    "COUNT(outcome), TOTAL(outcome <> 'scored'), TOTAL(score), TOTAL(score * score), TOTAL(calls), "
    "TOTAL(prompt_tokens), TOTAL(completion_tokens), TOTAL(cost), "
    "TOTAL(outcome IS NOT NULL AND (prompt_tokens IS NULL OR completion_tokens IS NULL)), "
    "TOTAL(outcome IS NOT NULL AND cost IS NULL)"
)
"""Sums of rollouts, in the order of the columns that `tallies` keeps up to date by step, phase, program and LM."""

USED_BY_PROPOSALS = (
    "SELECT calls, prompt_tokens, completion_tokens, cost, step, "
    "prompt_tokens IS NULL OR completion_tokens IS NULL AS tokens_unknown, cost IS NULL AS cost_unknown "
    "FROM proposals WHERE run_id = :run"
)
"""Usage of strategies, in the columns that `tallies` has for rollouts."""


def usage_of_totals(row: Any) -> Usage:
    """Return the Usage of a row of `TOTAL_USAGE`. A total is unknown if any of its parts is."""
    calls, prompt, completion, cost, tokens_unknown, cost_unknown = row
    return Usage(
        int(calls),
        None if tokens_unknown else int(prompt),
        None if tokens_unknown else int(completion),
        None if cost_unknown else float(cost),
    )


def usage_by_lm(db: sqlite3.Connection, run_id: str, step: int | None = None) -> dict[str, Usage]:
    values = {"run": run_id, "step": step}
    which = "(:step IS NULL OR step = :step)"
    rows = db.execute(f"SELECT lm, {TOTAL_USAGE} FROM tallies WHERE run_id = :run AND {which} GROUP BY lm", values)
    used = {lm: usage_of_totals(totals) for lm, *totals in rows}
    count, *totals = db.execute(
        f"SELECT COUNT(*), {TOTAL_USAGE} FROM ({USED_BY_PROPOSALS}) WHERE {which}", values
    ).fetchone()
    if count:
        used[PROMPT_MODEL] = usage_of_totals(totals)
    rest = None if step is not None else usage_without_result(db, run_id, sum(used.values(), start=Usage()))
    return used if rest is None else {**used, WITHOUT_RESULT: rest}


def usage_without_result(db: sqlite3.Connection, run_id: str, of_results: Usage) -> Usage | None:
    """Return the usage of the calls that the run has counted beyond those of its results; None if there are none.

    Of their tokens only the sum is known. It is divided into prompt and completion as those of the results are.
    """
    counted, tokens, known = spending(db, run_id), of_results.tokens, of_results
    if counted.calls <= known.calls:
        return None
    cost = None if known.cost is None else max(0.0, counted.cost - known.cost)
    if tokens is None or known.completion_tokens is None:
        return Usage(counted.calls - known.calls, None, None, cost)
    rest = max(0, counted.tokens - tokens)
    completion = rest * known.completion_tokens // tokens if tokens else 0
    return Usage(counted.calls - known.calls, rest - completion, completion, cost)


def spending(db: sqlite3.Connection, run_id: str) -> Spending:
    row = db.execute(
        "SELECT calls_reserved, tokens_used, cost_used, seconds_up FROM runs WHERE run_id = ?", [run_id]
    ).fetchone()
    return Spending() if row is None else Spending(*row)
