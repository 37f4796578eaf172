"""OTP for asyncio: servers that keep a state, and supervisors that restart them when they fail.

>>> import asyncio
>>> from dataclasses import dataclass
>>> from functools import partial
>>> from simba_actors.actors import (
...     Call, CallExitError, ChildSpec, GenServer, Registry, Reply, Supervisor, which_children
... )

The messages of a server are frozen dataclasses. A message that expects a reply declares the reply's type:

>>> @dataclass(frozen=True, slots=True)
... class Push(Call[int]):
...     item: str
>>> @dataclass(frozen=True, slots=True)
... class Pop(Call[str]):
...     pass

The server matches on its messages and handles them one at a time. Only its own callbacks touch its state:

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

Functions in the same module hide the messages from callers. A type checker infers the type of each reply:

>>> async def push(stack, item):
...     return await stack.call(Push(item))
>>> async def pop(stack):
...     return await stack.call(Pop())

A supervisor starts the server and restarts it when it crashes. A registered name finds it across restarts:

>>> async def main():
...     registry = Registry()
...     stack = registry.via("stack")
...     start = partial(Stack.start_link, "hello", name="stack", registry=registry)
...     supervisor = await Supervisor.start([ChildSpec("stack", start)])
...     print(await push(stack, "world"), await pop(stack), await pop(stack))
...     try:
...         await pop(stack)  # The stack is empty: the server crashes, and the caller learns why.
...     except CallExitError as error:
...         print(error)
...     await which_children(supervisor)  # The supervisor answers after it has restarted the server.
...     print(await pop(stack))
...     await supervisor.stop()
>>> asyncio.run(main())
2 world hello
Stack 'stack' exited (IndexError: pop from empty list)
hello

The rules:

- A process is an asyncio task with a mailbox. It ends once, with one exit reason: `NORMAL`, `SHUTDOWN`, `KILLED`, your
  own `Exit`, or the exception that a callback raised. Let callbacks raise: the supervisor handles it.
- `call` waits for a reply, for 5 seconds by default, and raises if there will be none. `cast` does not wait for a
  reply. `send` delivers to `handle_info`. A cast or send to a dead process does nothing.
- `start_link` links a process to the one that starts it, its parent. If one exits abnormally, so does the other, or it
  gets an `ExitSignal` if it sets `trap_exit`. A child always exits with its parent. `monitor` delivers a `Down` when
  another process ends, and links nothing.
- A supervisor starts its children in order and stops them in reverse order. After more than 3 restarts within 5 seconds
  it gives up and exits, and its own supervisor decides what to do.
- A stop or shutdown overtakes waiting messages. A mailbox is unbounded unless `mailbox_size` is set; then `call` and
  `cast` wait for room. No message is dropped.
- A restart loses the mailbox and the state. Store what must survive before you reply.
- A crash is one record of the logger `simba_actors.actors`, with the name, the reason, the last message, the state as
  `format_state` returns it, and the number of restarts so far.
- Keep the ref of every process you start, or register a name, or start it under a supervisor. Dropping the last ref of
  a living process is a ResourceWarning.
- `simba_actors.actors.sys` looks at a running server: its state, its statistics. It can also suspend it.

Differences from the BEAM:

- A callback that blocks stops the whole event loop. Run blocking code in a thread.
- A task can ignore its cancellation. A killed process therefore counts as dead at once, whatever its task still does:
  its replies, messages and calls have no effect.
- A process without `trap_exit` exits at its next await and runs `terminate`. On the BEAM it would not. If the host
  cancels a process's task, the process shuts down the same way and the cancellation propagates.
- Messages are not copied. Do not change a message after sending it.
- All processes of a tree run in one event loop. From another thread, use `loop.call_soon_threadsafe`.

When not to use it: a process is for something that runs concurrently and keeps its own state, or that may fail on its
own. To organize code, use modules and classes. To run a few things concurrently, use an `asyncio.TaskGroup`. A value
that many read and nobody changes needs no server, which would only make its readers wait.
"""

from simba_actors.actors.calls import Call, From, reply
from simba_actors.actors.children import (
    ChildInfo,
    ChildSpec,
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
from simba_actors.actors.process import Down, ExitSignal
from simba_actors.actors.ref import Address, Ref, Registry, Via
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
from simba_actors.actors.spawn import demonitor, link, monitor, spawn, spawn_link, unlink
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
