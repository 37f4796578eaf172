"""A small OTP for asyncio: servers that keep a state, and supervisors that start them again when they fail.

>>> import asyncio
>>> from dataclasses import dataclass
>>> from functools import partial
>>> from simba_actors.actors import (
...     Call, CallExitError, ChildSpec, GenServer, Registry, Reply, Supervisor, which_children
... )

A server's messages are frozen dataclasses. One that expects a reply says of which type:

>>> @dataclass(frozen=True, slots=True)
... class Push(Call[int]):
...     item: str
>>> @dataclass(frozen=True, slots=True)
... class Pop(Call[str]):
...     pass

The server itself matches on them. It is the only one that touches its state, one message at a time:

>>> class Stack(GenServer[list[str]]):
...     def __init__(self, *items):
...         self._items = items
...     async def init(self):
...         self.state = list(self._items)
...     async def handle_call(self, message, sender):
...         match message:
...             case Push(item=item):
...                 self.state.append(item)
...                 return Reply(len(self.state))
...             case Pop():
...                 return Reply(self.state.pop())
...             case _:
...                 return await super().handle_call(message, sender)

Callers use functions of the same module, so that nobody else needs to know the messages. `call` gives the message's own
reply type to a type checker:

>>> async def push(stack, item):
...     return await stack.call(Push(item))
>>> async def pop(stack):
...     return await stack.call(Pop())

A supervisor starts it, and starts it again when it fails. A name finds it across its lives:

>>> async def main():
...     registry = Registry()
...     stack = registry.via("stack")
...     start = partial(Stack.start_link, "hello", name="stack", registry=registry)
...     supervisor = await Supervisor.start([ChildSpec("stack", start)])
...     print(await push(stack, "world"), await pop(stack), await pop(stack))
...     try:
...         await pop(stack)  # Nothing is left: the server crashes, and the caller hears why.
...     except CallExitError as error:
...         print(error)
...     await which_children(supervisor)  # The supervisor has seen to it when it answers this.
...     print(await pop(stack))
...     await supervisor.stop()
>>> asyncio.run(main())
2 world hello
Stack 'stack' exited (IndexError: pop from empty list)
hello

The rules:

- A process is an asyncio task with a mailbox. It ends once, with one exit reason: `NORMAL`, `SHUTDOWN`, `KILLED`, an
  `Exit` of your own, or the exception that a callback raised. Let it raise: its supervisor knows what to do.
- `call` waits for a reply, 5 seconds by default, and raises where none can come. `cast` tells and goes on; to the dead
  it does nothing. `send` is for `handle_info`.
- `start_link` ties a process to the one that starts it. An abnormal end of one ends the other, or comes as an
  `ExitSignal` where `trap_exit` is set. A child ends with its parent in any case. `monitor` tells of an end and ties
  nothing.
- A supervisor starts its children in order and stops them in reverse. More than 3 restarts within 5 seconds, and it
  gives up and exits, for its own supervisor to deal with.
- A stop or a shutdown passes the messages that wait, so that a full mailbox can be shut down. A mailbox is unbounded
  unless `mailbox_size` says otherwise; then `call` and `cast` wait for room, and nothing is dropped.
- A restart loses the mailbox and the state. What must survive is stored before it is answered.
- A crash is one record in the log of `simba_actors.actors`: who, why, the last message, the state as `format_state`
  shows it, and the restarts so far.
- Whoever starts a process keeps its ref, names it in a registry, or has a supervisor. The last ref dropped while it
  lives is a ResourceWarning.
- `simba_actors.actors.sys` looks into a running server: its state, its pauses, its statistics.

Where asyncio is not the BEAM:

- A callback that blocks, blocks the whole event loop. Use a thread for what blocks.
- A task can hold on to its cancellation. A killed process is therefore declared dead at once, whatever its task still
  does: its replies, messages and calls are void from then on.
- A process without `trap_exit` that is told to exit does so at its next await, and `terminate` runs; on the BEAM it
  would not. When the host cancels a process's task it shuts down the same way, and the cancellation goes on.
- Messages are passed as they are, not copied: do not change what you have sent.
- All processes of a tree live in one event loop. From another thread or loop, `loop.call_soon_threadsafe` it.

When not to use it: a process is for something that runs at the same time as others and keeps a state of its own, or
that may fail on its own. Code that is only to be kept together is a module or a class; a few concurrent calls are an
`asyncio.TaskGroup`; a value that many read and none changes needs no server in front of it, which all would wait for.
"""

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
from simba_actors.actors.errors import (
    ActorError,
    CallExitError,
    CallTimeoutError,
    NoProcessError,
    TooManyRestartsError,
)
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
    "CallExitError",
    "CallReturn",
    "CallTimeoutError",
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
    "NoProcessError",
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
