"""Check whether a student conforms to `bridge.proto`, with the cases in `conformance.json`.

    for finding in check("http://127.0.0.1:7000"):
        print(finding.name, finding.problem or "ok")

A case is a call and the answers that are allowed:

* `method`, and `message`: what is sent. For a Run it is made from the student's description and the inputs, and changed
  by `patch` (a JSON merge patch, whose `key` gets a prefix of its own in each check), `without`, `model`, `demos`,
  `text` (put into each input that is a string) and `padding` (characters of an unknown field). `body` is sent as it is.
* `reply`: the type of the reply; `same_as`: the case whose reply it must equal.
* `refusal`: the codes of the refusals that are allowed.
* `transport`: "http" for what can't be said over gRPC.
"""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from simba_actors.bridge.calls import StudentCallError
from simba_actors.bridge.connection import Connection
from simba_actors.bridge.descriptions import problem_of
from simba_actors.bridge.messages import MAJOR, CancelReply, Description, Message, Object, RunOutcome, RunReply
from simba_actors.transport.security import TLS

CASES = Path(__file__).with_name("conformance.json")

CALL_SECONDS = 60.0
"""Maximum seconds of a call."""

REPLIES: Mapping[str, type[Message]] = {"Description": Description, "RunReply": RunReply, "CancelReply": CancelReply}

TEXT = "What is 1 + 1?"
"""The value of each input that is a string, unless inputs are given."""

VALUES: Mapping[object, Any] = {"string": TEXT, "integer": 1, "number": 0.5, "boolean": True, "array": [], "object": {}}


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one case."""

    name: str
    """What a conforming student does, such as "runs the program"."""
    problem: str | None
    """What is wrong; None if nothing is."""


def check(
    address: str, *, inputs: Object | None = None, token: str | None = None, tls: TLS | None = None
) -> Iterator[Finding]:
    """Yield the result of each case. The program runs about ten times, with its own LM.

    Args:
        address: The address of the student.
        inputs: Inputs to run the program on; by default values of the types that it describes.
        token, tls: As in `RemoteStudent`.

    Raises:
        ConfigError: The address is not valid.
        StudentCallError: The student does not describe itself.
    """
    connection = Connection([address], token=token, tls=tls)
    description = connection.describe([MAJOR], CALL_SECONDS)
    transport = "grpc" if address.startswith("grpc") else "http"
    session = _Session(connection, description, inputs or _values(description))
    for case in cast("list[dict[str, Any]]", json.loads(CASES.read_text(encoding="utf-8"))):
        if case.get("transport", transport) == transport:
            yield Finding(case["name"], session.problem_of(case))


class _Session:
    def __init__(self, connection: Connection, description: Description, inputs: Object) -> None:
        self._client = connection.first_client
        self._description = description
        self._inputs = inputs
        self._prefix = uuid.uuid4().hex[:8]
        self._replies: dict[str, Object] = {}

    def problem_of(self, case: Mapping[str, Any]) -> str | None:
        """Make the call of a case, and return what is wrong with the answer; None if nothing is."""
        first = self._replies.get(case.get("after_evidence", case.get("same_as", "")), {})
        if first.get("outcome") == RunOutcome.INFRASTRUCTURE_FAILURE:
            return None  # Such a Run is made again under its key, so there is nothing to compare.
        refusals = cast("Sequence[str]", case.get("refusal", ()))
        try:
            answer = self._client.call(case["method"], self._message(case), CALL_SECONDS)
        except StudentCallError as error:
            if error.provider_code in refusals:
                return None
            if "padding" in case and error.provider_code is None:
                return None  # It may close the connection before it has read everything.
            expected = f"with {' or '.join(refusals)}" if refusals else f"with a {case['reply']}"
            return f"it must answer {expected}, and it did not: {error}"
        if "reply" not in case:
            return f"it must refuse with {' or '.join(refusals)}, and it answered {_shown(answer)}"
        return self._problem_of_reply(case, answer)

    def _problem_of_reply(self, case: Mapping[str, Any], answer: Any) -> str | None:
        try:
            reply = REPLIES[case["reply"]].from_json(answer)
        except (ValidationError, RecursionError) as error:
            return f"its answer is not a {case['reply']}: {error}"
        self._replies[case["name"]] = answer
        if "same_as" in case and answer != self._replies.get(case["same_as"]):
            return (
                f"it must answer as it did before, {_shown(self._replies.get(case['same_as']))}, not {_shown(answer)}"
            )
        if isinstance(reply, Description):
            return _problem_of_description(reply)
        if isinstance(reply, RunReply):
            return self._problem_of_run(self._key(case["patch"]["key"]), reply)
        return None

    def _problem_of_run(self, key: str, reply: RunReply) -> str | None:
        if reply.key != key:
            return f"the reply's key must be that of the request, {key!r}, not {reply.key!r}"
        fields = {
            predictor.name: {field.name for field in (*predictor.inputs, *predictor.outputs)}
            for predictor in self._description.predictors
        }
        for step in reply.trace:
            if step.predictor not in fields:
                return f"a step of the trace is of {step.predictor!r}; the predictors are {sorted(fields)}"
            unknown = {*step.inputs, *step.outputs} - fields[step.predictor]
            if unknown:
                return f"a step of {step.predictor!r} has the fields {sorted(unknown)}, which are not described"
        if reply.outcome is RunOutcome.SUCCEEDED and not reply.trace:
            return "the program succeeded, and the trace is empty: without steps there are no demos"
        wrong = {name: value for name, value in reply.usage.items() if not isinstance(value, int | float) or value < 0}
        return f"the usage must be numbers of at least 0, not {wrong}" if wrong else None

    def _message(self, case: Mapping[str, Any]) -> Any:
        if "body" in case:
            return cast("str", case["body"]).encode()
        if "message" in case:
            return case["message"]
        request: Object = {
            "major": MAJOR,
            "predictors": {
                predictor.name: {"instructions": predictor.instructions, "demos": predictor.demos}
                for predictor in self._description.predictors
            },
            "inputs": self._inputs,
            "timeoutSeconds": CALL_SECONDS,
        }
        request = copy.deepcopy(request)
        for predictor in self._description.predictors:
            state = request["predictors"][predictor.name]
            if "model" in case:
                state["model"] = case["model"]
            if case.get("demos"):
                state["demos"] = [{field.name: "1" for field in (*predictor.inputs, *predictor.outputs)}]
        if "text" in case:
            request["inputs"] = {n: case["text"] if isinstance(v, str) else v for n, v in self._inputs.items()}
        for name, value in case["patch"].items():
            is_merged = isinstance(value, dict) and isinstance(request.get(name), dict)
            request[name] = {**request[name], **value} if is_merged else value
        for name in case.get("without", ()):
            request.pop(name)
        request.update(case.get("nulls", {}))
        if "padding" in case:
            request["traceContext"] = {"tracestate": "x" * case["padding"]}
        request["key"] = self._key(request["key"])
        return request

    def _key(self, name: str) -> str:
        """Return a key that no other check has used."""
        return f"{self._prefix}-{name}" if name else ""


def _problem_of_description(description: Description) -> str | None:
    if description.major != MAJOR:
        return f"it was asked for version {MAJOR}, and describes itself in version {description.major}"
    return problem_of(description)


def _values(description: Description) -> Object:
    """Return a value for each input, of the type that its schema says."""
    inputs = description.inputs or description.predictors[0].inputs
    values: Object = {}
    for field in inputs:
        options: Any = field.schema_.get("enum")
        kind = field.schema_.get("type", "string")
        values[field.name] = (
            options[0] if options else copy.copy(VALUES.get(kind if isinstance(kind, str) else "", TEXT))
        )
    return values


def _shown(answer: Any) -> str:
    return json.dumps(answer)[:300]
