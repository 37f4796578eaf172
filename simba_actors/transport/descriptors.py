"""Types of protobuf messages, without generated code. It needs the extra `grpc`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2


def message_types(file: Path, names: Iterable[str]) -> Mapping[str, Any]:
    """Return the message types with `names`, of a file that `protoc --descriptor_set_out` wrote."""
    files = descriptor_pb2.FileDescriptorSet.FromString(file.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
    for each in files.file:
        pool.Add(each)
    package = files.file[-1].package
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))  # pyright: ignore[reportUnknownMemberType]
        for name in names
    }
