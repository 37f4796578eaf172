"""Dynamic supervisors, which start without children and get them one by one."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from simba_actors.actors.calls import is_duration
from simba_actors.actors.children import Child, ChildSpec
from simba_actors.actors.errors import BadSpecError, MaxChildrenError
from simba_actors.actors.ref import Ref
from simba_actors.actors.supervisor import Supervisor, SupervisorEvent


class DynamicSupervisor(Supervisor):
    """Starts children on demand, restarts each on its own, and stops all of them concurrently.

    >>> import asyncio
    >>> from simba_actors.actors import ChildSpec, DynamicSupervisor, GenServer, start_child, which_children
    >>> class Session(GenServer[None]): ...
    >>> async def main():
    ...     supervisor = await DynamicSupervisor.start(max_children=100)
    ...     for _ in range(3):
    ...         await start_child(supervisor, ChildSpec("session", Session.start_link, restart="temporary"))
    ...     print(len(await which_children(supervisor)))
    ...     await supervisor.stop()
    >>> asyncio.run(main())
    3

    Specs may share an id: each child gets the id `(id, n)` with a number of its own. `terminate_child` accepts that id
    or the child's ref.

    Args of `start`:
        max_children: Maximum number of children, those that are restarting included. `start_child` raises
            MaxChildrenError beyond it. No limit by default.
        max_restarts, max_seconds, on_event: As for Supervisor.
    """

    def __init__(
        self,
        *,
        max_children: float = math.inf,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        on_event: Callable[[SupervisorEvent], None] | None = None,
    ) -> None:
        if not is_duration(max_children):
            raise BadSpecError(f"max_children={max_children!r} must be a number of at least 0")
        super().__init__([], max_restarts=max_restarts, max_seconds=max_seconds, on_event=on_event)
        self._max_children = max_children
        self._numbers = itertools.count(1)

    async def _add(self, spec: ChildSpec) -> Ref:
        self._checked(spec)
        if sum(child.running or child.restarting for child in self.state) >= self._max_children:
            raise MaxChildrenError(f"{self._process.name} already has its maximum of {self._max_children} children")
        return await super()._add(replace(spec, id=(spec.id, next(self._numbers))))

    async def _stop_all(self, children: Sequence[Child]) -> None:
        await asyncio.gather(*(child.stop(self._process) for child in children))
