"""What a run may use at most."""

from __future__ import annotations

from dataclasses import dataclass, fields

from simba_actors.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Caps on what a run may use over all its lives; None means no cap.

    `max_calls` counts LM calls, which are reserved before they are sent, so it is never passed. `max_cost` is in US
    dollars as the LM reports them. `max_seconds` counts the time that the run was up. Reaching a cap ends the run in
    order with the best program known; the same run goes on when started with a larger budget.
    """

    max_calls: int | None = None
    max_cost: float | None = None
    max_tokens: int | None = None
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        for cap in fields(self):
            limit = getattr(self, cap.name)
            number = isinstance(limit, int | float) and not isinstance(limit, bool)
            if limit is not None and not (number and limit > 0):
                raise ConfigError(f"Budget({cap.name}={limit!r}): a cap must be a number above 0, or None for no cap")
