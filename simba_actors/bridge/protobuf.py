"""The messages of `bridge.proto` in protobuf's binary format. It needs the extra `grpc`.

There is no generated code: `bridge.binpb` is what `protoc` makes of the contract,

    python -m grpc_tools.protoc -I. --descriptor_set_out=bridge.binpb bridge.proto

"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

from google.protobuf import json_format
from google.protobuf.message import DecodeError

from simba_actors.bridge.messages import Object
from simba_actors.transport.descriptors import message_types

DESCRIPTORS = Path(__file__).with_name("bridge.binpb")

METHODS: Mapping[str, tuple[str, str]] = {
    "Describe": ("DescribeRequest", "Description"),
    "Run": ("RunRequest", "RunReply"),
    "Cancel": ("CancelRequest", "CancelReply"),
}
"""The types of the request and of the reply of each method."""


def writer(name: str) -> Callable[[Object], bytes]:
    """Return a function that encodes messages of a type, given as JSON. It raises ValueError for an invalid one."""
    kind = _types()[name]

    def write(message: Object) -> bytes:
        try:
            return json_format.ParseDict(message, kind(), ignore_unknown_fields=True).SerializeToString()
        except (json_format.ParseError, RecursionError) as error:
            raise ValueError(f"not a {name}: {error}") from None

    return write


def reader(name: str) -> Callable[[bytes], Object]:
    """Return a function that decodes messages of a type into JSON. It raises ValueError for an invalid one."""
    kind = _types()[name]

    def read(data: bytes) -> Object:
        try:
            return cast("Object", _whole(json_format.MessageToDict(kind.FromString(data))))
        except (DecodeError, json_format.Error, RecursionError) as error:
            raise ValueError(f"not a {name}: {error}") from None

    return read


@cache
def _types() -> Mapping[str, Any]:
    return message_types(DESCRIPTORS, {name for pair in METHODS.values() for name in pair})


def _whole(value: Any) -> Any:
    """Return JSON in which whole numbers are integers, as they were before protobuf made floats of them."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list):
        return [_whole(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {name: _whole(item) for name, item in cast("dict[str, Any]", value).items()}
    return value
