"""The pool as policies see it: programs by number, and what they are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from simba_actors.programs import Configuration, ConfigurationSpace
from simba_actors.programs.parts import PartWithValue, assemble, omissions, parts_of, setting_parts
from simba_actors.search.model.parts import Part


class PoolView:
    """A snapshot of the pool. Implements `simba_actors.search.policy.Pool`."""

    def __init__(
        self, configurations: Mapping[int, Configuration], student: Configuration, space: ConfigurationSpace
    ) -> None:
        self.configurations = configurations
        self._student, self._space = student, space
        self._free = (*setting_parts(space, student), *omissions(student))

    def before(self, number: int | None) -> PoolView:
        """Return the pool of the programs with numbers below `number`; None keeps all."""
        if number is None or all(program < number for program in self.configurations):
            return self
        known = {program: found for program, found in self.configurations.items() if program < number}
        return PoolView(known, self._student, self._space)

    def programs(self) -> Sequence[int]:
        return sorted(self.configurations)

    def demos(self, program: int) -> int:
        configuration = self.configurations[program]
        return max(len(configuration.demos(predictor)) for predictor in configuration.predictors)

    def parts(self, program: int) -> tuple[Part, ...]:
        return tuple(entry.part for entry in self._parts[program])

    def free_parts(self) -> tuple[Part, ...]:
        return tuple(entry.part for entry in self._free)

    def has(self, configuration: Configuration) -> bool:
        """Return whether a program of the pool has that configuration."""
        return configuration.digest in self._digests

    def combine(self, part_ids: Iterable[str]) -> Configuration:
        """Return the student with these parts of the pool's programs, or free parts, in this order.

        Choices that depend on what is not among them are left out.
        """
        free = {entry.part.part_id: entry for entry in self._free}
        known = {part_id: entry for part_id, (_, entry) in self._known.items()} | free
        assembled = assemble([known[part_id] for part_id in part_ids if part_id in known], self._student)
        return self._space.without_unmet(assembled, self._student)

    def donors(self, part_ids: Iterable[str]) -> tuple[int, ...]:
        """Return the programs that had these parts first."""
        return tuple(sorted({self._known[part_id][0] for part_id in part_ids if part_id in self._known}))

    @cached_property
    def _known(self) -> Mapping[str, tuple[int, PartWithValue]]:
        """Each part with the first program that had it, in order of those programs."""
        known: dict[str, tuple[int, PartWithValue]] = {}
        for program in self.programs():
            for entry in self._parts[program]:
                known.setdefault(entry.part.part_id, (program, entry))
        return known

    @cached_property
    def _parts(self) -> Mapping[int, tuple[PartWithValue, ...]]:
        return {number: parts_of(configuration, self._student) for number, configuration in self.configurations.items()}

    @cached_property
    def _digests(self) -> frozenset[str]:
        return frozenset(configuration.digest for configuration in self.configurations.values())
