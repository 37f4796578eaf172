"""Registries: names for processes."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from simba_actors.actors.errors import AlreadyRegisteredError, NoProcessError
from simba_actors.actors.process import Process
from simba_actors.actors.ref import Address, Ref


class Registry:
    """Finds a process by a key, across restarts.

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

    Each key belongs to one process at a time. When that process ends, the key is free before anyone is notified.
    """

    def __init__(self) -> None:
        self._owners: dict[Hashable, Process] = {}

    def register(self, key: Hashable, ref: Ref) -> None:
        """Register the process of `ref` under `key`.

        Raises:
            AlreadyRegisteredError: A living process has this key. The error carries its ref.
            NoProcessError: The process is dead.
        """
        owner = self._owners.get(key)
        if owner is not None:
            raise AlreadyRegisteredError(f"{key!r} is already registered by {owner.name}", Ref(owner))
        process = ref.process()
        self._owners[key] = process
        process.on_exit.append(lambda: self.unregister(key, ref))

    def unregister(self, key: Hashable, ref: Ref) -> None:
        """Free `key`, if it belongs to the process of `ref`."""
        if self._owners.get(key) is ref.target:
            del self._owners[key]

    def whereis(self, key: Hashable) -> Ref | None:
        """Return the ref of the living process with this key, or None."""
        owner = self._owners.get(key)
        return None if owner is None else Ref(owner)

    def keys(self) -> list[Hashable]:
        """Return all keys, in the order of their registration."""
        return list(self._owners)

    def via(self, key: Hashable) -> Via:
        """Return an address that looks up `key` each time it is used."""
        return Via(self, key)


@dataclass(frozen=True, slots=True)
class Via(Address):
    """The process that has a key at the time a message is sent."""

    registry: Registry
    key: Hashable

    def process(self) -> Process:
        ref = self.registry.whereis(self.key)
        if ref is None:
            raise NoProcessError(f"no process is registered as {self.key!r}")
        return ref.process()
