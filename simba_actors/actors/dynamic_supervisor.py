"""DynamicSupervisor: children that come and go, each on its own."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from simba_actors.actors.child_spec import ChildSpec
from simba_actors.actors.children import Child
from simba_actors.actors.durations import is_duration
from simba_actors.actors.errors import BadSpecError, MaxChildrenError
from simba_actors.actors.ref import Ref
from simba_actors.actors.supervisor import Supervisor, SupervisorEvent


class DynamicSupervisor(Supervisor):
    """Starts children on demand, each restarted on its own, and stops them all at once.

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

    Ids need not differ: a child's place is `(id, n)` with an n of its own, and `terminate_child` takes its ref as well.
    `max_children` counts children that are being restarted too; one more is refused with MaxChildrenError.
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
            raise BadSpecError(f"max_children={max_children!r} is no number of at least 0")
        super().__init__([], max_restarts=max_restarts, max_seconds=max_seconds, on_event=on_event)
        self._max_children = max_children
        self._places = itertools.count(1)

    async def _add(self, spec: ChildSpec) -> Ref:
        self._checked(spec)
        if sum(child.running or child.restarting for child in self.state) >= self._max_children:
            raise MaxChildrenError(f"{self._process.name} has {self._max_children} children, and may not have more")
        return await super()._add(replace(spec, id=(spec.id, next(self._places))))

    async def _stop_all(self, children: Sequence[Child]) -> None:
        await asyncio.gather(*(child.stop(self._process) for child in children))
