"""The pool as policies see it."""

from __future__ import annotations

import dspy

from simba_actors.programs import ConfigurationSpace
from simba_actors.team.pool_view import PoolView


def test_parts_are_combined_in_the_order_of_their_names() -> None:
    space = ConfigurationSpace.from_module(student := dspy.Predict("question -> answer"))
    own = space.extract(student)
    demos = [{"question": f"{n}?", "answer": f"{n}"} for n in range(3)]
    pool = PoolView({0: own, 1: own.with_demos("self", demos)}, own, space)
    first, second, third = (part.part_id for part in pool.parts(1))
    combined = pool.combine([third, first, second])
    assert [demo["answer"] for demo in combined.demos("self")] == ["2", "0", "1"]


def test_a_view_has_no_part_and_no_program_of_a_later_number() -> None:
    space = ConfigurationSpace.from_module(student := dspy.Predict("question -> answer"))
    own = space.extract(student)
    first, later = (own.with_demos("self", [{"question": f"{n}?", "answer": f"{n}"}]) for n in range(2))
    pool = PoolView({0: own, 1: first, 2: later}, own, space)
    before = pool.before(2)
    parts = [part.part_id for program in pool.programs() for part in pool.parts(program)]
    assert (pool.donors(parts), before.donors(parts)) == ((1, 2), (1,))
    assert (pool.has(later), before.has(later), before.has(first)) == (True, False, True)
    assert before.combine(parts).demos("self") == first.demos("self")
