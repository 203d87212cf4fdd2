"""Durations of a run: ``1000`` (optimizer steps), ``2.5ep`` (epochs) or ``10%`` (of the run)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, TypeAlias, TypeVar

from fastvae.settings import Rule, Settings, has_rule

_FORM = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ep|epochs?|%)?")
_RULE = "must be a number of steps such as 1000, of epochs such as 2.5ep, or a share of the run such as 10%"


@dataclass(frozen=True)
class DurationRule(Rule):
    """The annotation of `Duration` and `DurationOrNone`."""

    allows_none: bool = False

    def check(self, value: Any, where: str) -> int | str | None:
        """Return a duration in its only spelling: an int, ``2.5ep`` or ``10%``."""
        if value is None and self.allows_none:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        match = _FORM.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f"{where} {_RULE}, got {value!r}")
        number, unit = match.groups()
        if unit is None:
            if not number.isdigit():
                raise ValueError(f"{where} {_RULE}, got {value!r}")
            return int(number)
        if unit == "%" and float(number) > 100:
            raise ValueError(f"{where} {_RULE}, at most 100%, got {value!r}")
        return f"{float(number):.12g}{'%' if unit == '%' else 'ep'}"


Duration: TypeAlias = Annotated[int | str, DurationRule()]
"""Type of a setting that is a duration: steps as an int, or a text such as ``2.5ep`` or ``10%``."""
# None is not added outside, since tyro does not find the annotation in a union.
DurationOrNone: TypeAlias = Annotated[int | str | None, DurationRule(allows_none=True)]
"""The same for a setting that may be None."""


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Converts durations of one run to optimizer steps."""

    num_examples: int
    """Number of training examples: one epoch."""
    global_batch_size: int
    """Number of examples per optimizer step."""
    num_steps: int | None = None
    """Number of optimizer steps of the run, which shares refer to."""

    def steps(self, duration: int | str) -> int:
        """Return a duration in whole optimizer steps: rounded, and at least 1 unless it is 0.

        Raises:
            ValueError: a share of a run whose length is not known.
        """
        if isinstance(duration, int):
            return duration
        if duration.endswith("%"):
            if self.num_steps is None:
                raise ValueError(f"a run's length must be in steps or epochs, got {duration}")
            exact = _number(duration) / 100 * self.num_steps
        else:
            exact = _number(duration) * self.num_examples / self.global_batch_size
        return max(round(exact), 1) if exact > 0 else 0

    def examples(self, step: int) -> int:
        """Return the number of examples seen at a step."""
        return step * self.global_batch_size

    def epochs(self, step: int) -> float:
        """Return the number of epochs seen at a step."""
        return self.examples(step) / self.num_examples

    def convert(self, settings: S) -> S:
        """Return settings with all their durations in steps, including those of nested settings."""
        changes: dict[str, Any] = {}
        for each in fields(settings):  # type: ignore[arg-type]  # every Settings is a dataclass
            value = getattr(settings, each.name)
            if isinstance(value, Settings):
                changes[each.name] = self.convert(value)
            elif isinstance(value, str) and has_rule(type(settings), each.name, DurationRule):
                changes[each.name] = self.steps(value)
        return replace(settings, **changes)  # type: ignore[type-var]

    def run_length(self, epochs: float) -> int:
        """Return the number of steps in which that many epochs are seen completely."""
        return max(1, math.ceil(round(epochs * self.num_examples / self.global_batch_size, 6)))


def steps_of(duration: int | str) -> int:
    """Return a duration that is in steps.

    Raises:
        ValueError: it is in epochs or a share; `Clock.steps` converts it.
    """
    if not isinstance(duration, int):
        raise ValueError(f"{duration} depends on the run; fastvae.train.in_steps converts the durations of a config")
    return duration


def is_shorter(first: int | str, second: int | str) -> bool:
    """Whether the first of two durations is shorter; False if that depends on the run, as of 10% and 100 steps."""
    if first == 0:
        return second != 0
    unit, other = (duration.strip("0123456789.") if isinstance(duration, str) else "" for duration in (first, second))
    return unit == other and _number(first) < _number(second)


def _number(duration: int | str) -> float:
    return float(str(duration).removesuffix("%").removesuffix("ep"))
