"""What a run has used, and what it may still use."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import fields

from simba_actors.errors import BudgetReachedError, UnknownUsageError
from simba_actors.lm.budget import Budget
from simba_actors.search.trajectory import Usage
from simba_actors.store.records import RecordProposal, RecordRollout, ReserveCalls, Write


class Purse:
    """Keeps a run within its budget.

    `calls` counts LM calls that were made, or that a crash may have kept from being made. `used` sums up what the
    results that are stored tell. `clock` gives seconds.
    """

    def __init__(self, budget: Budget, clock: Callable[[], float] = time.monotonic) -> None:
        self.budget = budget
        limits = ((cap.name, getattr(budget, cap.name)) for cap in fields(budget))
        self._caps: list[tuple[str, float]] = [(cap, limit) for cap, limit in limits if limit is not None]
        self.calls = 0
        self.used = Usage()
        self._filled = False
        self._lock = threading.Lock()
        self._reserved = 0
        self._clock = clock
        self._seconds = 0.0
        self._up_since: float | None = None

    def fill(self, reserved: int, used: Usage, seconds: float) -> None:
        """What the store knows. Once it is filled, only the calls that are `reserved` in the store are news."""
        self._reserved = reserved
        if not self._filled:
            self.calls, self.used, self._seconds = max(reserved, used.calls), used, seconds
            self._filled = True

    def count(self, stored: Iterable[Write]) -> None:
        """Takes note of what has been stored."""
        for write in stored:
            match write:
                case RecordRollout(trajectory=trajectory):
                    self.used += trajectory.usage
                case RecordProposal(usage=usage):
                    self.used += usage
                case ReserveCalls(calls=calls):
                    self._reserved += calls
                case _:
                    pass

    @property
    def unreserved(self) -> int:
        """Calls counted that the store does not know of; 0 where there is no cap on calls."""
        return 0 if self.budget.max_calls is None else self.calls - self._reserved

    def start_clock(self) -> None:
        if self._up_since is None:
            self._up_since = self._clock()

    def stop_clock(self) -> None:
        self._seconds, self._up_since = self.seconds, None

    @property
    def seconds(self) -> float:
        """How long the run was up, over all its lives."""
        return self._seconds + (0.0 if self._up_since is None else self._clock() - self._up_since)

    @property
    def seconds_left(self) -> float:
        limit = self.budget.max_seconds
        return float("inf") if limit is None else limit - self.seconds

    def reached(self) -> str | None:
        """The name of a cap that is reached, if one is."""
        return next((cap for cap, limit in self._caps if self._spent(cap) >= limit), None)

    def _spent(self, cap: str) -> float:
        match cap:
            case "max_calls":
                return self.calls
            case "max_cost":
                return self.used.cost or 0.0
            case "max_tokens":
                return self.used.tokens or 0
            case _:
                return self.seconds

    def check(self) -> None:
        """Raises what keeps a rollout from being started.

        Raises:
            BudgetReachedError: A cap is reached.
            UnknownUsageError: A cap can't be kept, for nobody says what the calls use.
        """
        cap = self.reached()
        if cap is not None:
            raise self._reached(cap)
        if self.budget.max_cost is not None and self.used.cost is None:
            raise UnknownUsageError(
                f"max_cost={self.budget.max_cost:g} can't be kept: the LM does not say what its calls cost. Start the "
                "run again with max_calls or max_tokens in its place"
            )
        if self.budget.max_tokens is not None and self.used.tokens is None:
            raise UnknownUsageError(
                f"max_tokens={self.budget.max_tokens} can't be kept: the LM does not say how many its calls use. Start "
                "the run again with max_calls in its place"
            )

    def take_call(self) -> None:
        """Counts one more call. Raises BudgetReachedError where there is none left."""
        with self._lock:  # Threads take calls too, while the event loop is blocked.
            if self.budget.max_calls is not None and self.calls >= self.budget.max_calls:
                raise self._reached("max_calls")
            self.calls += 1

    def _reached(self, cap: str) -> BudgetReachedError:
        return BudgetReachedError(f"the budget's {cap}={getattr(self.budget, cap):g} is reached", cap)
