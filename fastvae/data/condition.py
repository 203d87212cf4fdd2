"""What a model may be told beside an example: a class, a length, a speaker; one mechanism for every kind of data."""

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
    """One thing that a condition says of an example, as some columns of the condition's vector."""

    @property
    def name(self) -> str:
        """What it is called, as in ``--data.condition label`` and ``--label``."""
        ...

    @property
    def size(self) -> int:
        """How many columns it takes."""
        ...

    def columns(self, attribute: Tensor) -> Tensor:
        """float32 [N, size] of the attribute [N] that a source gives under this name."""
        ...

    def vector(self, value: Value) -> Tensor:
        """float32 [size] of a value that a person names."""
        ...

    def examples(self, num: int) -> Tensor:
        """float32 [num, size] that shows what the field can be, where nobody asks for a value."""
        ...


@dataclass(frozen=True)
class ConditionField:
    """One of several classes, as a one-hot vector.

    The source's attribute of this name is an int64 index into ``values``.
    """

    name: str
    values: tuple[str, ...]
    """The classes as a person names them."""

    @property
    def size(self) -> int:
        """One column for each class."""
        return len(self.values)

    def columns(self, attribute: Tensor) -> Tensor:
        """One-hot float32 [N, size] of class indices [N].

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
        """One-hot float32 [size] of a class's name, or of its index where no class is named by a number.

        Raises:
            ValueError: there is no such class; the message names those that there are.
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
        """The classes in turn, float32 [num, size]."""
        return self.columns(torch.arange(num) % self.size)


@dataclass(frozen=True)
class LengthField(ConditionField):
    """The number of tokens, one-hot from 1 on; shown by lengths that the data have."""

    usual: tuple[int, ...] = (1,)
    """Lengths to show where nobody asks for one."""

    def vector(self, value: Value) -> Tensor:
        """One-hot float32 [size] of a length.

        Raises:
            ValueError: it is none that the model was built for.
        """
        if str(value) not in self.values:
            raise ValueError(f"condition: {self.name} must be one of 1 to {self.size}, got {str(value)!r}")
        return super().vector(value)

    def examples(self, num: int) -> Tensor:
        """The usual lengths in turn, float32 [num, size]."""
        return self.columns(torch.tensor(self.usual)[torch.arange(num) % len(self.usual)] - 1)


@dataclass(frozen=True)
class NumberField:
    """A number, scaled so that the data's range becomes 0 .. 1; the source's attribute is the number itself."""

    name: str
    low: float
    high: float
    size: int = 1

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"condition: {self.name} needs low < high, got {self.low} and {self.high}")

    def columns(self, attribute: Tensor) -> Tensor:
        """Scaled float32 [N, 1] of numbers [N]."""
        return ((attribute.to(torch.float32) - self.low) / (self.high - self.low)).unsqueeze(1)

    def vector(self, value: Value) -> Tensor:
        """Scaled float32 [1] of a number; one outside the data's range is asked of the model all the same.

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
        """Evenly spread over the data's range, float32 [num, 1]."""
        return torch.linspace(0, 1, num).unsqueeze(1)


@dataclass(frozen=True)
class Conditions:
    """The fields of a run's condition, one after the other in its vector."""

    fields: tuple[Field, ...]

    @property
    def size(self) -> int:
        """C, the numbers in a condition's vector."""
        return sum(field.size for field in self.fields)

    @property
    def places(self) -> dict[str, tuple[int, int]]:
        """First and last column + 1 of each field, by name."""
        stops = list(accumulate(field.size for field in self.fields))
        return {field.name: (stop - field.size, stop) for field, stop in zip(self.fields, stops, strict=True)}

    def vector(self, **values: Value) -> Tensor:
        """The condition float32 [C] that these values name.

        Raises:
            ValueError: a field is missing, unknown, or a value is not one of its; the message names those that are.
        """
        missing = [field.name for field in self.fields if field.name not in values]
        if missing:
            raise ValueError(f"condition: a value is needed for {', '.join(missing)}; give one")
        return self.vectors(1, **values)[0]

    def vectors(self, num: int, **values: Value | None) -> Tensor:
        """Conditions float32 [num, C]; a field without a value (or with None) shows what it can be, in turn.

        Raises:
            ValueError: a field is unknown, or a value is not one of its.
        """
        names = [field.name for field in self.fields]
        for name, value in values.items():
            if value is not None and name not in names:
                raise ValueError(
                    f"condition: this run is conditioned on {', '.join(names)}, not on {name}; leave it out"
                )
        parts = [
            field.examples(num) if (value := values.get(field.name)) is None else field.vector(value).expand(num, -1)
            for field in self.fields
        ]
        return torch.cat(parts, dim=1)

    def columns(self, source: Source) -> Tensor:
        """The conditions float32 [N, C] of a source's examples.

        Raises:
            ValueError: the source does not know one of the fields.
        """
        parts = []
        for field in self.fields:
            attribute = source.attribute(field.name)
            if attribute is None:
                raise ValueError(
                    f"condition: the model is told the {field.name} of each example, and these examples have none;"
                    f" give examples with a {field.name}, or train without it (--data.condition)"
                )
            parts.append(field.columns(attribute))
        return torch.cat(parts, dim=1)


def conditioned(source: Source, conditions: Conditions) -> Source:
    """The source, its examples now read together with their conditions."""
    copied = copy.copy(source)
    copied.conditions = conditions.columns(source)
    return copied


def choose_fields(known: Sequence[Field], names: Sequence[str], where: str) -> Conditions:
    """The fields of those names.

    Raises:
        ValueError: the data know no such field, or one is named twice; the message has those that are known.
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
        raise ValueError(f"{where}: a condition can be named once, got {', '.join(names)}")
    return Conditions(tuple(fields[name] for name in names))
