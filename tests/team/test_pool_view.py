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
