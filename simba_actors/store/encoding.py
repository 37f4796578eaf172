"""Conversion of values to the rows of a store, and back."""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import orjson

from simba_actors.search.rollout import JSON, ModelSpec, Outcome, Rollout, RolloutKey, TraceStep, Trajectory, Usage
from simba_actors.store.records import RolloutRecord

if TYPE_CHECKING:
    from simba_actors.events import Event

INTENT_COLUMNS = "step, phase, position, program, split, example, model"
RESULT_COLUMNS = "outcome, score, seconds, calls, prompt_tokens, completion_tokens, cost, trajectory"
PROGRAM_COLUMNS = "number, digest, parents, strategy, step, provenance"
PROPOSAL_COLUMNS = "step, slot, intent, program, reason, calls, prompt_tokens, completion_tokens, cost"
EVENT_COLUMNS = "seq, time, kind, data"
PUBLICATION_COLUMNS = "channel, version, kind, digest, origin, share, run_id, program, publisher, reason, time"

SHARED_TEXT_LENGTH = 128
"""Minimum length of a text that is stored once, by its digest, however many rows hold it."""

DEEPEST = 100
"""Maximum depth of nested lists and objects. Below it, texts are not shared, and values that JSON can't hold are stored
as text."""

_REFERENCE = "\0"
"""Start of a string that refers to a shared text. The user's own texts that start like this are shared as well."""

_REFERENCE_IN_JSON = "\\u0000"


def dumps(value: Any) -> str:
    """Return `value` as JSON. Values that JSON or SQLite can't hold become text, so that no record ends a run."""
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, RecursionError):
        return orjson.dumps(_storable(value, DEEPEST)).decode()


def loads(text: str | None) -> Any:
    return None if text is None else orjson.loads(text)


def storable_text(text: str) -> str:
    """Return `text` with halves of surrogate pairs, which UTF-8 can't express, as escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _storable(value: Any, levels: int) -> JSON:
    match value:
        case str():
            return storable_text(value)
        case dict() if levels:
            items = cast("dict[Any, Any]", value).items()
            return {storable_text(str(key)): _storable(item, levels - 1) for key, item in items}
        case list() | tuple() if levels:
            return [_storable(item, levels - 1) for item in cast("list[Any]", value)]
        case None | bool() | float():
            return value
        case int() if -(2**63) <= value < 2**63:
            return value
        case _:
            return storable_text(f"{value!s:.1000}")


# ── texts that many rows share ───────────────────────────────────────────────────────────────────────────────────────


def share_texts(value: Any, texts: dict[str, str]) -> Any:
    """Return `value` with references in place of long texts, and put those texts into `texts` by digest."""

    def shared(text: str) -> str:
        if len(text) < SHARED_TEXT_LENGTH and not text.startswith(_REFERENCE):
            return text
        stored = storable_text(text)
        digest = text_digest(stored)
        texts[digest] = stored
        return _REFERENCE + digest

    return _replace_texts(value, shared)


def load_shared(db: sqlite3.Connection, stored: Iterable[str | None]) -> list[Any]:
    """Return the values of JSON texts, with shared texts in place of the references to them."""
    rows = list(stored)
    values = [loads(text) for text in rows]
    referring = [index for index, text in enumerate(rows) if text is not None and _REFERENCE_IN_JSON in text]
    if not referring:
        return values
    digests = sorted({digest for index in referring for digest in references(values[index])})
    found = dict(
        db.execute(
            "SELECT digest, value FROM texts WHERE digest IN (SELECT value FROM json_each(?))", [dumps(digests)]
        ).fetchall()
    )

    def unshared(text: str) -> str:
        if not text.startswith(_REFERENCE):
            return text
        digest = text.removeprefix(_REFERENCE)
        if digest not in found:
            raise sqlite3.DatabaseError(f"malformed: the text {digest:.12} is missing")
        return found[digest]

    for index in referring:
        values[index] = _replace_texts(values[index], unshared)
    return values


def references(value: Any) -> Iterator[str]:
    """Yield the digests of the shared texts that a stored value refers to."""
    match value:
        case str():
            if value.startswith(_REFERENCE):
                yield value.removeprefix(_REFERENCE)
        case dict():
            for item in cast("dict[str, Any]", value).values():
                yield from references(item)
        case list():
            for item in cast("list[Any]", value):
                yield from references(item)
        case _:
            pass


def text_digest(text: str) -> str:
    """Return the digest by which a shared text is stored: BLAKE2b in 32 hexadecimal digits."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _replace_texts(value: Any, replace: Callable[[str], str], levels: int = DEEPEST) -> Any:
    match value:
        case str():
            return replace(value)
        case dict() if levels:
            items = cast("dict[str, Any]", value).items()
            return {key: _replace_texts(item, replace, levels - 1) for key, item in items}
        case list() | tuple() if levels:
            return [_replace_texts(item, replace, levels - 1) for item in cast("list[Any]", value)]
        case _:
            return value


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def checksum(*values: Any) -> int:
    """Return a CRC-32 of the values of a row, by which damage is recognized."""
    return zlib.crc32(orjson.dumps(values))


def intent_row(rollout: Rollout) -> tuple[Any, ...]:
    """Return the values of `INTENT_COLUMNS`."""
    key, model = rollout.key, rollout.model
    return (
        key.step,
        key.phase,
        key.position,
        rollout.program,
        rollout.split,
        rollout.example,
        dumps([model.lm, model.rollout_id, model.temperature]),
    )


def result_row(trajectory: Trajectory, texts: dict[str, str]) -> tuple[Any, ...]:
    """Return the values of `RESULT_COLUMNS`, and put the texts that it shares with other rows into `texts`."""
    usage = trajectory.usage
    payload: dict[str, Any] = {
        "score": trajectory.score,  # The column is a float; here the metric's own type is kept.
        "prediction": trajectory.prediction,
        "trace": [[step.predictor, step.inputs, step.outputs] for step in trajectory.trace],
        "feedback": trajectory.feedback,
        "error": trajectory.error,
    }
    if trajectory.cut_off:
        payload["cut_off"] = True
    if trajectory.expected:
        payload["expected"] = trajectory.expected
    return (
        trajectory.outcome.value,
        float(trajectory.score),
        float(trajectory.seconds),
        usage.calls,
        usage.prompt_tokens,
        usage.completion_tokens,
        None if usage.cost is None else float(usage.cost),
        dumps(share_texts(payload, texts)),
    )


def rollout_records(db: sqlite3.Connection, rows: Iterable[Any]) -> list[RolloutRecord]:
    """Return the records of rows of `INTENT_COLUMNS`, followed by `RESULT_COLUMNS` if there is a result."""
    found = list(rows)
    width = len(INTENT_COLUMNS.split(", "))
    payloads = load_shared(db, (row[-1] if len(row) > width else None for row in found))
    return [_rollout_record(row[:width], row[width:], payload) for row, payload in zip(found, payloads, strict=True)]


def _rollout_record(intent: Any, result: Any, payload: Any) -> RolloutRecord:
    step, phase, position, program, split, example, model = intent
    rollout = Rollout(RolloutKey(step, phase, position), program, example, ModelSpec(*loads(model)), split)
    return RolloutRecord(rollout, _trajectory(result, payload) if result else None)


def _trajectory(result: Any, stored: dict[str, Any]) -> Trajectory:
    outcome, _, seconds, calls, prompt_tokens, completion_tokens, cost, _ = result
    return Trajectory(
        Outcome(outcome),
        stored["score"],
        cast("dict[str, JSON] | None", stored["prediction"]),
        tuple(TraceStep(*step) for step in stored["trace"]),
        stored["feedback"],
        Usage(calls, prompt_tokens, completion_tokens, cost),
        seconds,
        stored["error"],
        stored.get("cut_off", False),
        stored.get("expected", {}),
    )


def inputs_digest(inputs: Mapping[str, JSON]) -> str:
    """Return the digest by which an online example is stored: that of its inputs."""
    return text_digest(orjson.dumps(dict(inputs), option=orjson.OPT_SORT_KEYS).decode())


# ── events ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_RENAMED = {"slot": "index", "baseline_score": "sampled_mean"}
"""Names of event fields in the stores of earlier versions, with their names today."""


def event_row(event: Event) -> tuple[Any, ...]:
    """Return the values of `EVENT_COLUMNS`."""
    return (event.seq, event.time, type(event).__name__, dumps(event.own_fields()))


def event_of(run_id: str, row: Any) -> Event | None:
    """Return the event of a row of `EVENT_COLUMNS`; None if only a newer version knows its kind."""
    from simba_actors.events import EVENT_TYPES  # Most commands read no events, and their many classes take 30 ms.

    seq, time, kind, data = row
    if kind not in EVENT_TYPES:
        return None
    stored: dict[str, JSON] = loads(data)
    values: dict[str, Any] = {
        _RENAMED.get(name, name): tuple(value) if isinstance(value, list) else value for name, value in stored.items()
    }
    if "outcome" in values:
        values["outcome"] = Outcome(values["outcome"])
    return EVENT_TYPES[kind](**values, run_id=run_id, seq=seq, time=time)
