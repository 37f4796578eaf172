"""Finding out whether an endpoint accepts the temperature that sampling adds to calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simba_actors.lm.endpoint import Endpoint, Temperature
from simba_actors.lm.failures import FailureClass, classify, status_of
from simba_actors.programs.values import text_of
from simba_actors.runtime.logs import get_logger

logger = get_logger(__name__)

REFUSED_SETTING_STATUS = frozenset({None, 400, 422})
"""Statuses with which providers refuse a setting such as the temperature; None if the client reports no status."""


class TemperatureTrial:
    """The attempts of one call, and what they tell of the temperature that sampling has added to it.

    Reasoning models accept only their own temperature. The student did not ask for this one, so a call that is rejected
    with it is made again without it, and later calls of the endpoint do without it as well.
    """

    def __init__(self, endpoint: Endpoint, original: Any, added: float | None) -> None:
        """`original` is the user's LM. `added` is None if sampling has added no temperature to the call."""
        self._endpoint = endpoint
        self._original = original
        self._added = added
        self._conclusion: Temperature | None = None
        """What to conclude if the call is answered without the temperature; None if it is sent with it."""
        self._was_suspected = False
        self._rejections = 0
        """Attempts with the temperature that were rejected."""

    def arguments(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments of the next attempt, of a call with the arguments `kwargs`."""
        self._was_suspected = self._endpoint.temperature is Temperature.SUSPECTED
        if self._is_left_out:
            return {**kwargs, "temperature": self._original.kwargs.get("temperature")}
        return kwargs

    def failed(self, error: Exception) -> None:
        """Note that the attempt failed."""
        rejected = classify(error) is FailureClass.REJECTED and status_of(error) in REFUSED_SETTING_STATUS
        if self._added is None or not rejected or self._is_left_out:
            return
        if "temperature" in text_of(error).lower():
            self._conclusion = Temperature.REFUSED
            return
        self._rejections += 1
        if self._endpoint.temperature is not Temperature.ACCEPTED or self._rejections > 1:
            # The error may have another reason, so one call proves nothing. A second one, made after it, does. An
            # endpoint that has accepted the temperature before may have another model behind it now.
            self._conclusion = Temperature.REFUSED if self._was_suspected else Temperature.SUSPECTED

    def answered(self) -> None:
        """Note that the attempt was answered."""
        endpoint = self._endpoint
        if self._added is None or endpoint.temperature is Temperature.REFUSED:
            return
        if self._conclusion is None:
            endpoint.temperature = Temperature.ACCEPTED
        elif (
            endpoint.temperature is not Temperature.ACCEPTED
            or self._conclusion is Temperature.REFUSED
            or self._rejections > 1
        ):
            endpoint.temperature = self._conclusion
        if endpoint.temperature is Temperature.REFUSED:
            logger.warning(
                "%s rejects calls with temperature=%g and answers them without: sampling continues without it, and "
                "samples differ by their rollout_id alone",
                endpoint.name,
                self._added,
            )

    @property
    def _is_left_out(self) -> bool:
        refused = self._endpoint.temperature is Temperature.REFUSED
        return self._added is not None and (refused or self._conclusion is not None)
