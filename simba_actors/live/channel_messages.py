"""The messages of `channels.proto`, for both sides of a gRPC connection. They need the extra `grpc`.

There is no generated code: `channels.binpb` is what `protoc` makes of the contract,

    python -m grpc_tools.protoc -I. --descriptor_set_out=channels.binpb channels.proto

"""

from __future__ import annotations

from pathlib import Path

from simba_actors.transport.descriptors import message_types

SERVICE = "simba_actors.channels.Channels"

DESCRIPTORS = Path(__file__).with_name("channels.binpb")

_types = message_types(DESCRIPTORS, ("GetRequest", "Snapshot", "WatchRequest", "Hint", "Scores", "Score", "Stored"))

GetRequest = _types["GetRequest"]
SnapshotMessage = _types["Snapshot"]
WatchRequest = _types["WatchRequest"]
Hint = _types["Hint"]
Scores = _types["Scores"]
ScoreMessage = _types["Score"]
Stored = _types["Stored"]
