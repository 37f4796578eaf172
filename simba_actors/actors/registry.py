"""Names for processes: registered once, freed when their owner ends."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from simba_actors.actors.errors import AlreadyRegisteredError, NoProcessError
from simba_actors.actors.process import Process
from simba_actors.actors.ref import Address, Ref


class Registry:
    """Finds a process by a key, across its restarts.

    >>> import asyncio
    >>> from simba_actors.actors import GenServer, Registry
    >>> class Printer(GenServer[None]):
    ...     async def handle_cast(self, message):
    ...         print(message)
    >>> async def main():
    ...     registry = Registry()
    ...     await Printer.start(name="printer", registry=registry)
    ...     printer = registry.via("printer")
    ...     await printer.cast("hello")
    ...     await asyncio.sleep(0)
    ...     await printer.stop()
    ...     print(registry.whereis("printer"))
    >>> asyncio.run(main())
    hello
    None

    A key has one owner at a time. When the owner ends, the key is free again before anyone hears of the end.
    """

    def __init__(self) -> None:
        self._owners: dict[Hashable, Process] = {}

    def register(self, key: Hashable, ref: Ref) -> None:
        """Gives `key` to the process behind `ref`.

        Raises:
            AlreadyRegisteredError: It belongs to a living process, whose ref the error carries.
            NoProcessError: The process is dead.
        """
        owner = self._owners.get(key)
        if owner is not None:
            raise AlreadyRegisteredError(f"{key!r} is registered by {owner.name}", Ref(owner))
        process = ref.process()
        self._owners[key] = process
        process.on_exit.append(lambda: self.unregister(key, ref))

    def unregister(self, key: Hashable, ref: Ref) -> None:
        """Frees `key` if it belongs to the process behind `ref`."""
        if self._owners.get(key) is ref.target:
            del self._owners[key]

    def whereis(self, key: Hashable) -> Ref | None:
        """The living process registered under `key`, or None."""
        owner = self._owners.get(key)
        return None if owner is None else Ref(owner)

    def keys(self) -> list[Hashable]:
        return list(self._owners)

    def via(self, key: Hashable) -> Via:
        """An address that looks `key` up each time it is used."""
        return Via(self, key)


@dataclass(frozen=True, slots=True)
class Via(Address):
    """The process that is registered under a key when a message is sent."""

    registry: Registry
    key: Hashable

    def process(self) -> Process:
        ref = self.registry.whereis(self.key)
        if ref is None:
            raise NoProcessError(f"no process is registered as {self.key!r}")
        return ref.process()
