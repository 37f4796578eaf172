"""What counts as a length of time."""

from __future__ import annotations

from simba_actors.actors.errors import BadTimeoutError


def is_duration(value: object) -> bool:
    """Whether `value` is a number of at least 0, `math.inf` included."""
    return isinstance(value, (float, int)) and value >= 0 and not isinstance(value, bool)


def check_timeout(timeout: object) -> None:
    """Raises BadTimeoutError unless `timeout` is a number of seconds, or None."""
    if timeout is not None and not is_duration(timeout):
        raise BadTimeoutError(f"timeout={timeout!r} is no number of seconds of at least 0")
