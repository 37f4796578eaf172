"""The pool as policies see it: programs by number, and what they are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from threading import Lock

from simba_actors.programs import Configuration, ConfigurationSpace
from simba_actors.programs.parts import PartWithValue, assemble, omissions, parts_of, setting_parts
from simba_actors.search.model.parts import Part


class ProgramIndex:
    """What the programs of a run are made of. Views of the pool share it, so each program is taken apart once."""

    def __init__(self, student: Configuration) -> None:
        self._student = student
        self._lock = Lock()  # Views are used in several threads.
        self.parts: dict[int, tuple[PartWithValue, ...]] = {}
        """The parts of each program."""
        self.first_with_part: dict[str, tuple[int, PartWithValue]] = {}
        """Each part by its id, with the lowest number of a program that has it."""
        self.first_with_digest: dict[str, int] = {}
        """The lowest number of a program by the digest of its configuration."""

    def add(self, configurations: Mapping[int, Configuration]) -> None:
        """Add the programs that are not known yet."""
        with self._lock:
            for number in sorted(configurations.keys() - self.parts.keys()):
                self._add(number, configurations[number])

    def _add(self, number: int, configuration: Configuration) -> None:
        self.parts[number] = parts = parts_of(configuration, self._student)
        for entry in parts:
            part_id = entry.part.part_id
            if part_id not in self.first_with_part or number < self.first_with_part[part_id][0]:
                self.first_with_part[part_id] = number, entry
        digest = configuration.digest
        self.first_with_digest[digest] = min(number, self.first_with_digest.get(digest, number))


class PoolView:
    """A snapshot of the pool. Implements `simba_actors.search.policy.Pool`.

    It has every program that the run ever makes with a number up to that of its last one. An `index` may have later
    programs too.
    """

    def __init__(
        self,
        configurations: Mapping[int, Configuration],
        student: Configuration,
        space: ConfigurationSpace,
        index: ProgramIndex | None = None,
    ) -> None:
        self.configurations = configurations
        self._student, self._space = student, space
        self._free = (*setting_parts(space, student), *omissions(student))
        self._shared_index = index or ProgramIndex(student)

    def before(self, number: int | None) -> PoolView:
        """Return the pool of the programs with numbers below `number`; None keeps all."""
        if number is None or max(self.configurations, default=-1) < number:
            return self
        known = {program: found for program, found in self.configurations.items() if program < number}
        return PoolView(known, self._student, self._space, self._shared_index)

    def programs(self) -> Sequence[int]:
        return self._numbers

    def demos(self, program: int) -> int:
        configuration = self.configurations[program]
        return max(len(configuration.demos(predictor)) for predictor in configuration.predictors)

    def parts(self, program: int) -> tuple[Part, ...]:
        return tuple(entry.part for entry in self._index.parts[program])

    def free_parts(self) -> tuple[Part, ...]:
        return tuple(entry.part for entry in self._free)

    def has(self, configuration: Configuration) -> bool:
        """Return whether a program of the pool has that configuration."""
        return self._index.first_with_digest.get(configuration.digest) in self.configurations

    def combine(self, part_ids: Iterable[str]) -> Configuration:
        """Return the student with these parts of the pool's programs, or free parts, in this order.

        Choices that depend on what is not among them are left out.
        """
        part_ids = tuple(part_ids)
        known = {part_id: entry for part_id, (_, entry) in self._first_with(part_ids).items()}
        known |= {entry.part.part_id: entry for entry in self._free}
        assembled = assemble([known[part_id] for part_id in part_ids if part_id in known], self._student)
        return self._space.without_unmet(assembled, self._student)

    def donors(self, part_ids: Iterable[str]) -> tuple[int, ...]:
        """Return the programs that had these parts first."""
        return tuple(sorted({program for program, _ in self._first_with(part_ids).values()}))

    def _first_with(self, part_ids: Iterable[str]) -> dict[str, tuple[int, PartWithValue]]:
        """Return each of these parts that the pool has, with the first program that had it."""
        first = self._index.first_with_part
        found = {part_id: first[part_id] for part_id in part_ids if part_id in first}
        return {part_id: each for part_id, each in found.items() if each[0] in self.configurations}

    @cached_property
    def _numbers(self) -> Sequence[int]:
        return sorted(self.configurations)

    @cached_property
    def _index(self) -> ProgramIndex:
        """The index, once it has the programs of this pool."""
        self._shared_index.add(self.configurations)
        return self._shared_index
