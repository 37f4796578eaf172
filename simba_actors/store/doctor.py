"""Checks of a store: what must be true of any file that a run was killed over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from simba_actors.store.queries import Queries
from simba_actors.store.schema import VERSION


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether `what` is true of the store, and if not, in `detail`, what is wrong and what to do."""

    what: str
    ok: bool
    detail: str = ""


_COUNTS = {
    "every rollout's program is in the pool": (
        "SELECT COUNT(*) FROM rollouts r LEFT JOIN programs p ON p.run_id = r.run_id AND p.number = r.program "
        "WHERE p.number IS NULL"
    ),
    "every program's configuration is there": (
        "SELECT COUNT(*) FROM programs LEFT JOIN configurations USING (digest) WHERE value IS NULL"
    ),
    "every closed step has all its results": (
        "SELECT COUNT(*) FROM rollouts JOIN steps USING (run_id, step) "
        "WHERE steps.result IS NOT NULL AND rollouts.outcome IS NULL AND phase <> 'final'"
    ),
    "events are numbered without gaps": (
        "SELECT COUNT(*) FROM (SELECT run_id FROM events GROUP BY run_id HAVING MAX(seq) <> COUNT(*))"
    ),
    "tallies agree with the rollouts": (
        "SELECT COUNT(*) FROM (SELECT run_id, step, phase, program, planned, done FROM tallies EXCEPT "
        "SELECT run_id, step, phase, program, COUNT(*), COUNT(outcome) FROM rollouts "
        "GROUP BY run_id, step, phase, program)"
    ),
}


async def check(store: str | Path) -> list[Finding]:
    """What was found, good and bad. Reads only. Raises StoreError if the file can't be read at all."""
    async with await Doctor.open(store) as doctor:
        return await doctor.findings()


class Doctor(Queries):
    """A Reader that checks what it reads."""

    async def findings(self) -> list[Finding]:
        version = (await self._rows("PRAGMA user_version"))[0][0]
        findings = [await self._integrity(), _schema(version)]
        if version == VERSION:
            findings += [await self._count(what, sql) for what, sql in _COUNTS.items()]
        return findings

    async def _integrity(self) -> Finding:
        problems = [row[0] for row in await self._rows("PRAGMA integrity_check(5)") if row[0] != "ok"]
        remedy = f"{'; '.join(problems)}: restore the file from a copy"
        return Finding("the file is sound", not problems, remedy if problems else "")

    async def _count(self, what: str, sql: str) -> Finding:
        count = (await self._rows(sql))[0][0]
        return Finding(what, count == 0, f"{count} are not: restore the file from a copy" if count else "")


def _schema(version: int) -> Finding:
    what = f"its schema is version {VERSION}"
    if version == VERSION:
        return Finding(what, ok=True)
    return Finding(what, ok=False, detail=f"it is version {version}: the next run, or publication, migrates it")
