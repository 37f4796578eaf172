"""Ending a child: a request, patience, and in the end force."""

from __future__ import annotations

import asyncio
import math

from simba_actors.actors.exits import KILLED, SHUTDOWN, ExitReason
from simba_actors.actors.process import Process, logger


async def shut_down(process: Process, parent: Process, patience: float) -> ExitReason:
    """Asks `process` to shut down, kills it after `patience` seconds (at once for 0), and gives its exit reason."""
    if patience > 0:
        process.receive_exit(parent, SHUTDOWN)
        try:
            async with asyncio.timeout(None if math.isinf(patience) else patience):
                return await asyncio.shield(process.exited)
        except TimeoutError:
            logger.warning("%s did not shut down within %g s, and is killed", process.name, patience)
    process.exit(KILLED)
    await process.reap()
    return process.exited.result()
