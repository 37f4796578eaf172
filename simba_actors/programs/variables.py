"""Variables: what can be optimized in a student, with the values that each can take."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from simba_actors.errors import ConfigError
from simba_actors.search.rollout import JSON

INSTRUCTIONS = "instructions"
DEMOS = "demos"
LM = "lm"

DESCRIPTION = "desc"
"""Last part of the name of a field's description, as in "answer.question.desc"."""

LEVELS = 5
"""Number of values of a numeric setting that a search tries."""


@dataclass(frozen=True, slots=True)
class Text:
    """Any string: the description of a field, or a text that the student holds, which a search may rewrite.

        ConfigurationSpace.from_module(
            student, settings={"answer.question.desc": Text(), "greeting": Text(), "tools.search.desc": Text()}
        )

    The first is the description of the field `question` of the predictor `answer`. The others are `student.greeting`
    and the description of the tool `student.tools["search"]`: names lead through attributes of modules and keys of
    dicts. New texts come from the strategy `RewriteTexts`.
    """

    def problem(self, value: JSON) -> str | None:
        """Return why `value` is not allowed; None if it is."""
        return None if isinstance(value, str) else f"must be a string, not {value!r:.80}"

    def levels(self) -> tuple[JSON, ...]:
        """Return the values that a search tries before any is written: none."""
        return ()


@dataclass(frozen=True, slots=True)
class Demos:
    """A list of demos for a predictor with these `fields`.

    A demo may lack some of them, or have others: DSPy's prompts leave out what they can't use.
    """

    fields: tuple[str, ...]

    def problem(self, value: JSON) -> str | None:
        if not isinstance(value, list):
            return f"must be a list of demos, not {value!r:.80}"
        for index, demo in enumerate(value):
            if not isinstance(demo, dict):
                return f"demo {index} must be an object of fields, not {demo!r:.80}"
        return None


@dataclass(frozen=True, slots=True)
class Float:
    """A number from `low` to `high`, both included, such as an LM's temperature; None leaves it to the LM.

        ConfigurationSpace.from_module(student, settings={"answer.temperature": Float(0.0, 1.5)})

    Raises:
        ConfigError: `low` is above `high`, or one of them is not finite.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_bounds(self, self.low, self.high)

    def problem(self, value: JSON) -> str | None:
        """Return why `value` is not allowed; None if it is."""
        if value is None or (_is_number(value) and self.low <= cast("float", value) <= self.high):
            return None
        return f"must be a number from {self.low:g} to {self.high:g}, not {value!r:.80}"

    def levels(self) -> tuple[JSON, ...]:
        """Return the values that a search tries: `LEVELS` of them, evenly spaced."""
        return tuple(self.low + (self.high - self.low) * n / (LEVELS - 1) for n in range(LEVELS))


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number from `low` to `high`, both included, such as `max_tokens`; None leaves it to the LM.

        ConfigurationSpace.from_module(student, settings={"answer.max_tokens": Integer(200, 2_000)})

    Raises:
        ConfigError: `low` is above `high`.
    """

    low: int
    high: int

    def __post_init__(self) -> None:
        _check_bounds(self, self.low, self.high)

    def problem(self, value: JSON) -> str | None:
        """Return why `value` is not allowed; None if it is."""
        if value is None or (_is_number(value) and isinstance(value, int) and self.low <= value <= self.high):
            return None
        return f"must be a whole number from {self.low} to {self.high}, not {value!r:.80}"

    def levels(self) -> tuple[JSON, ...]:
        """Return the values that a search tries: at most `LEVELS`, evenly spaced."""
        spaced = (self.low + (self.high - self.low) * n / (LEVELS - 1) for n in range(LEVELS))
        return tuple(dict.fromkeys(round(value) for value in spaced))


@dataclass(frozen=True, slots=True)
class Choice:
    """One of `options`, such as the name of an LM; None leaves it to the student.

        ConfigurationSpace.from_module(student, settings={"answer.reasoning_effort": Choice(("low", "high"))})

    With `when`, a search tries the options only with these values of other settings. With others it keeps the
    student's own value:

        "answer.lm": Choice(("small", "large")),
        "answer.reasoning_effort": Choice(("low", "high"), when={"answer.lm": ("large",)}),

    Raises:
        ConfigError: There are no options.
    """

    options: tuple[JSON, ...]
    when: Mapping[str, tuple[JSON, ...]] = field(default_factory=dict[str, tuple[JSON, ...]])
    """Values of other settings, by full name, that this choice depends on."""

    def __post_init__(self) -> None:
        if not self.options:
            raise ConfigError("Choice(options=()): there must be at least one option")

    def problem(self, value: JSON) -> str | None:
        """Return why `value` is not allowed; None if it is."""
        if value is None or is_one_of(value, self.options):
            return None
        return f"must be one of {list(self.options)}, not {value!r:.80}"

    def levels(self) -> tuple[JSON, ...]:
        """Return the values that a search tries: all options."""
        return self.options


Setting: TypeAlias = Float | Integer | Choice | Text
"""The domain of an LM setting or of a text."""

Domain: TypeAlias = Demos | Setting


@dataclass(frozen=True, slots=True)
class Variable:
    """One optimizable value of a predictor: `attribute` is "instructions", "demos", or the name of a setting.

    The attribute of a field's description is like "question.desc". For a text of another module, `predictor` is the
    first part of its name.
    """

    predictor: str
    attribute: str
    domain: Domain

    @property
    def name(self) -> str:
        return f"{self.predictor}.{self.attribute}" if self.predictor else self.attribute


def split_name(name: str) -> tuple[str, str]:
    """Return the predictor and the attribute in the full name of a variable."""
    predictor, _, attribute = name.rpartition(".")
    if attribute == DESCRIPTION:
        predictor, _, field = predictor.rpartition(".")
        attribute = f"{field}.{attribute}"
    return predictor, attribute


def is_one_of(value: JSON, options: Iterable[JSON]) -> bool:
    """Return whether `value` is among `options`. In Python True equals 1, in JSON it does not."""
    return any(value == option and type(value) is type(option) for option in options)


def _is_number(value: JSON) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_bounds(setting: Float | Integer, low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ConfigError(f"{setting!r}: low must be at most high, and both finite")
