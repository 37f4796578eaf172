"""A small OTP for asyncio."""

from simba_actors.actors.callers import From, reply
from simba_actors.actors.child_spec import ChildSpec
from simba_actors.actors.children import (
    ChildInfo,
    delete_child,
    restart_child,
    start_child,
    terminate_child,
    which_children,
)
from simba_actors.actors.dynamic_supervisor import DynamicSupervisor
from simba_actors.actors.errors import ActorError, TooManyRestartsError
from simba_actors.actors.exits import KILLED, NORMAL, SHUTDOWN, Exit, ExitReason
from simba_actors.actors.gen_server import GenServer
from simba_actors.actors.links import demonitor, link, monitor, unlink
from simba_actors.actors.process import Down, ExitSignal
from simba_actors.actors.ref import Address, Call, Ref
from simba_actors.actors.registry import Registry, Via
from simba_actors.actors.returns import (
    IDLE,
    CallReturn,
    CastReturn,
    Continue,
    Idle,
    Ignore,
    InitReturn,
    NoReply,
    Reply,
    Stop,
)
from simba_actors.actors.spawn import spawn, spawn_link
from simba_actors.actors.supervisor import Supervisor, SupervisorEvent
from simba_actors.actors.task_supervisor import Failed, Ok, TaskSupervisor, async_stream

__all__ = [
    "IDLE",
    "KILLED",
    "NORMAL",
    "SHUTDOWN",
    "ActorError",
    "Address",
    "Call",
    "CallReturn",
    "CastReturn",
    "ChildInfo",
    "ChildSpec",
    "Continue",
    "Down",
    "DynamicSupervisor",
    "Exit",
    "ExitReason",
    "ExitSignal",
    "Failed",
    "From",
    "GenServer",
    "Idle",
    "Ignore",
    "InitReturn",
    "NoReply",
    "Ok",
    "Ref",
    "Registry",
    "Reply",
    "Stop",
    "Supervisor",
    "SupervisorEvent",
    "TaskSupervisor",
    "TooManyRestartsError",
    "Via",
    "async_stream",
    "delete_child",
    "demonitor",
    "link",
    "monitor",
    "reply",
    "restart_child",
    "spawn",
    "spawn_link",
    "start_child",
    "terminate_child",
    "unlink",
    "which_children",
]
