"""Replace `dspy.SIMBA` in a script by changing one import.

    python examples/drop_in.py

With `store=` the compilation survives a kill: run the script again, and it continues where it was.
"""

from __future__ import annotations

from typing import Any

import dspy
from local_model import LineAdapter, local_lm, serve
from topics import messages, router, same_topic

from simba_actors import SIMBA  # Before: from dspy import SIMBA


def main() -> None:
    train, held_out = messages()
    simba = SIMBA(metric=same_topic, bsize=4, num_candidates=2, max_steps=1, max_demos=2, num_threads=8)
    with serve() as address, dspy.context(lm=local_lm(address), adapter=LineAdapter()):
        better: Any = simba.compile(router(), trainset=train[:8], seed=0)
        message = held_out[0].message
        print(f"{message!r} is about {better(message=message).topic}")
    for candidate in better.candidate_programs:
        print(f"{candidate['score']:.3f} with {len(candidate['program'].demos)} demos")


if __name__ == "__main__":
    main()
