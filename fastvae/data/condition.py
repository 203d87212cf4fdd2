"""Conditions of a model, such as a class, a length or a speaker: one mechanism for every kind of data."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fastvae.data.source import Source

Value = str | int | float


class Field(Protocol):
    """One variable of a condition, as some columns of the condition vector."""

    @property
    def name(self) -> str:
        """Name of the variable, as in ``--data.condition label`` and ``--label``."""
        ...

    @property
    def size(self) -> int:
        """Number of columns."""
        ...

    def columns(self, attribute: Tensor) -> Tensor:
        """Encode the attribute [N] of a source with this name as float32 [N, size]."""
        ...

    def vector(self, value: Value) -> Tensor:
        """Encode a value given by a user as float32 [size]."""
        ...

    def examples(self, num: int) -> Tensor:
        """Return example values, float32 [num, size], for a user who gives none."""
        ...


@dataclass(frozen=True)
class ConditionField:
    """One of several classes, as a one-hot vector.

    The source's attribute of this name is an int64 index into ``values``.
    """

    name: str
    values: tuple[str, ...]
    """Names of the classes."""

    @property
    def size(self) -> int:
        """One column for each class."""
        return len(self.values)

    def columns(self, attribute: Tensor) -> Tensor:
        """Encode class indices [N] as one-hot float32 [N, size].

        Raises:
            ValueError: an index is outside the classes.
        """
        outside = attribute[(attribute < 0) | (attribute >= self.size)]
        if len(outside):
            raise ValueError(
                f"condition: {self.name} must be in 0 .. {self.size - 1}, got {int(outside[0])} in the data"
            )
        return one_hot(attribute, self.size).to(torch.float32)

    def vector(self, value: Value) -> Tensor:
        """Encode the name of a class, or its index if no name is a number, as one-hot float32 [size].

        Raises:
            ValueError: the class is unknown; the message lists the classes.
        """
        text = str(value)
        if text in self.values:
            index = self.values.index(text)
        elif text.isdecimal() and int(text) < self.size and not any(name.isdecimal() for name in self.values):
            index = int(text)
        else:
            shown = ", ".join(self.values[:20]) + (", ..." if self.size > 20 else "")
            raise ValueError(f"condition: {self.name} must be one of {shown}, got {text!r}")
        return self.columns(torch.tensor([index]))[0]

    def examples(self, num: int) -> Tensor:
        """Cycle through the classes, float32 [num, size]."""
        return self.columns(torch.arange(num) % self.size)


@dataclass(frozen=True)
class LengthField(ConditionField):
    """The number of tokens, one-hot from 1 on; the examples are lengths that occur in the data."""

    usual: tuple[int, ...] = (1,)
    """Lengths to use if a user gives none."""

    def vector(self, value: Value) -> Tensor:
        """Encode a length as one-hot float32 [size].

        Raises:
            ValueError: the model was not built for this length.
        """
        if str(value) not in self.values:
            raise ValueError(f"condition: {self.name} must be one of 1 to {self.size}, got {str(value)!r}")
        return super().vector(value)

    def examples(self, num: int) -> Tensor:
        """Cycle through the usual lengths, float32 [num, size]."""
        return self.columns(torch.tensor(self.usual)[torch.arange(num) % len(self.usual)] - 1)


@dataclass(frozen=True)
class NumberField:
    """A number, scaled so that the range of the data is 0 .. 1; the attribute of the source is the number itself."""

    name: str
    low: float
    high: float
    size: int = 1

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"condition: {self.name} requires low < high, got {self.low} and {self.high}")

    def columns(self, attribute: Tensor) -> Tensor:
        """Scale numbers [N] to float32 [N, 1]."""
        return ((attribute.to(torch.float32) - self.low) / (self.high - self.low)).unsqueeze(1)

    def vector(self, value: Value) -> Tensor:
        """Scale a number to float32 [1]; out-of-range values are passed through.

        Raises:
            ValueError: not a finite number.
        """
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ValueError(
                f"condition: {self.name} must be a number, in the data {self.low:g} .. {self.high:g}, got {value!r}"
            )
        return self.columns(torch.tensor([number]))[0]

    def examples(self, num: int) -> Tensor:
        """Return evenly spaced values over the range of the data, float32 [num, 1]."""
        return torch.linspace(0, 1, num).unsqueeze(1)


@dataclass(frozen=True)
class Conditions:
    """The fields of a run's condition, concatenated in its vector."""

    fields: tuple[Field, ...]

    @property
    def size(self) -> int:
        """C, the size of the condition vector."""
        return sum(field.size for field in self.fields)

    @property
    def column_ranges(self) -> dict[str, tuple[int, int]]:
        """Return the first and last column + 1 of each field by name."""
        stops = list(accumulate(field.size for field in self.fields))
        return {field.name: (stop - field.size, stop) for field, stop in zip(self.fields, stops, strict=True)}

    def vector(self, **values: Value) -> Tensor:
        """Encode these values as a condition float32 [C].

        Raises:
            ValueError: a field is missing or unknown, or a value is invalid; the message lists the valid ones.
        """
        missing = [field.name for field in self.fields if field.name not in values]
        if missing:
            raise ValueError(f"condition: a value is needed for {', '.join(missing)}; give one")
        return self.vectors(1, **values)[0]

    def vectors(self, num: int, **values: Value | None) -> Tensor:
        """Return conditions float32 [num, C]; a field without a value (or with None) cycles through example values.

        Raises:
            ValueError: a field is unknown, or a value is invalid.
        """
        names = [field.name for field in self.fields]
        for name, value in values.items():
            if value is not None and name not in names:
                raise ValueError(f"condition: this run is conditioned on {', '.join(names)}, not on {name}; remove it")
        parts = [
            field.examples(num) if (value := values.get(field.name)) is None else field.vector(value).expand(num, -1)
            for field in self.fields
        ]
        return torch.cat(parts, dim=1)

    def columns(self, source: Source) -> Tensor:
        """Return the conditions float32 [N, C] of a source's examples.

        Raises:
            ValueError: the source does not have one of the fields.
        """
        parts = []
        for field in self.fields:
            attribute = source.attribute(field.name)
            if attribute is None:
                raise ValueError(
                    f"condition: the model is conditioned on {field.name}, which these examples do not have;"
                    f" give examples with a {field.name}, or train without it (--data.condition)"
                )
            parts.append(field.columns(attribute))
        return torch.cat(parts, dim=1)


def conditioned(source: Source, conditions: Conditions) -> Source:
    """Return the source with conditions."""
    copied = copy.copy(source)
    copied.conditions = conditions.columns(source)
    return copied


def choose_fields(known: Sequence[Field], names: Sequence[str], where: str) -> Conditions:
    """Return the fields with these names.

    Raises:
        ValueError: a field does not exist or is given twice; the message lists the fields of the data.
    """
    fields = {field.name: field for field in known}
    for name in names:
        if name not in fields:
            remedy = (
                f"choose from {', '.join(fields)}: --data.condition {next(iter(fields))}"
                if fields
                else ("leave --data.condition empty")
            )
            raise ValueError(f"{where}: the examples have no {name} to condition on; {remedy}")
    if len(set(names)) != len(names):
        raise ValueError(f"{where}: a condition must be given once, got {', '.join(names)}")
    return Conditions(tuple(fields[name] for name in names))
