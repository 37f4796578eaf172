"""The messages of `bridge.proto` as Python objects, read from and written as protobuf's JSON.

    reply = RunReply.model_validate_json('{"outcome": "OUTCOME_SUCCEEDED", "prediction": {"answer": "blue"}}')
    reply.to_json()

`bridge.proto` explains each field.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

MAJOR, MINOR = 1, 0
"""Version of the protocol."""

LARGEST_MESSAGE = 16 * 1024 * 1024
"""Maximum size of a message in bytes. A larger one is neither sent nor read."""

LARGEST_UINT32 = 2**32 - 1

Object = dict[str, Any]
"""A JSON object: a `google.protobuf.Struct`."""

Count = Annotated[int, Field(ge=0, le=LARGEST_UINT32)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]


class Message(BaseModel):
    """Base of all messages. Unknown fields are ignored, and null means that the field is absent."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        return {name: value for name, value in cast("dict[str, Any]", fields).items() if value is not None}

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Return the message itself: copies of a student share what is never changed."""
        return self

    @classmethod
    def from_json(cls, fields: Any) -> Self:
        """Read a message. Raise pydantic.ValidationError, which is a ValueError, if it is invalid."""
        return cls.model_validate(fields)

    def to_json(self) -> Object:
        """Return the message as JSON, without the fields that are absent."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class DescribeRequest(Message):
    majors: list[int] = []


class FieldDescription(Message):
    """`Field` in the protocol. Pydantic uses that name for something else."""

    name: Name
    schema_: Object = Field(default={}, alias="schema")
    description: str = ""


class PredictorDescription(Message):
    name: Name
    instructions: str = ""
    inputs: list[FieldDescription] = []
    outputs: list[FieldDescription] = Field(min_length=1)
    demos: list[Object] = []


class FloatRange(Message):
    low: float = 0.0
    high: float = 0.0


class IntegerRange(Message):
    low: int = 0
    high: int = 0


class Options(Message):
    options: list[Any]


class VariableDescription(Message):
    predictor: Name
    setting: Name
    float_: FloatRange | None = Field(default=None, alias="float")
    integer: IntegerRange | None = None
    choice: Options | None = None
    default: Any = None


class Description(Message):
    major: int
    minor: int = 0
    name: Name
    code_version: str = ""
    summary: str = ""
    inputs: list[FieldDescription] = []
    predictors: list[PredictorDescription] = Field(min_length=1)
    variables: list[VariableDescription] = []
    models: list[Name] = []
    max_concurrency: Count = 0


class Model(Message):
    name: str = ""
    temperature: float | None = None
    rollout_id: Count | None = None


class PredictorState(Message):
    instructions: str = ""
    demos: list[Object] = []
    settings: Object = {}
    model: Model = Model()


class RunRequest(Message):
    major: int
    key: Key
    predictors: dict[str, PredictorState]
    inputs: Object = {}
    timeout_seconds: Seconds = 0.0
    trace_context: dict[str, str] = {}


class RunOutcome(StrEnum):
    SUCCEEDED = "OUTCOME_SUCCEEDED"
    PROGRAM_FAILURE = "OUTCOME_PROGRAM_FAILURE"
    INFRASTRUCTURE_FAILURE = "OUTCOME_INFRASTRUCTURE_FAILURE"


class Step(Message):
    predictor: str = ""
    inputs: Object = {}
    outputs: Object = {}


class Failure(Message):
    type: str = ""
    message: str = ""
    permanent: bool = False
    retry_after_seconds: Seconds = 0.0
    rejected: bool = False


class RunReply(Message):
    key: str = ""
    outcome: RunOutcome
    prediction: Object | None = None
    trace: list[Step] = []
    usage: Object = {}
    """A `Usage`. It is checked separately, since a reply with an invalid one is still useful."""
    seconds: float = 0.0
    failure: Failure | None = None
    code_version: str = ""
    cut_off: bool = False

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.outcome is RunOutcome.SUCCEEDED and self.prediction is None:
            raise ValueError("the outcome is OUTCOME_SUCCEEDED, and there is no prediction")
        if self.outcome is not RunOutcome.SUCCEEDED and self.failure is None:
            raise ValueError(f"the outcome is {self.outcome}, and there is no failure")
        return self


class CancelRequest(Message):
    key: Key


class CancelReply(Message):
    found: bool = False
