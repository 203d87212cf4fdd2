"""The data of a run: training and test examples, and how batches are built from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from fastvae.data.condition import ConditionField, Conditions, Field, choose_fields, conditioned
from fastvae.data.preprocess import Preprocessor
from fastvae.data.source import Source
from fastvae.data.views import looked_at
from fastvae.model_inputs import ModelInputs

State = Mapping[str, bytes]  # files, by name, that a run keeps of its data


@dataclass(frozen=True, kw_only=True)
class Data:
    """Training and test examples, and how batches are built from them."""

    name: str
    train: Source
    test: Source
    preprocess: Preprocessor
    kind: str = "pixels"
    """The name of a kind of `fastvae.data.KINDS`, which determines how examples are rendered; pixels: also plain
    numbers."""
    label_names: tuple[str, ...] | None = None
    """Names of the labels."""
    fields: tuple[Field, ...] = ()
    """Fields that a condition may have besides the label."""
    conditions: Conditions | None = None
    """The condition of the batches, or None."""
    inputs: ModelInputs | None = None
    """Sizes that a model of these data depends on, without the condition; None if the event shape is enough."""
    state: State = field(default_factory=dict)
    """Files that are saved with a run and passed back when it is loaded: a tokenizer, scales, titles."""
    notes: tuple[str, ...] = ()
    """Lines that training prints at its start: what was read, what was skipped, how each column was interpreted."""

    def __post_init__(self) -> None:
        if self.train.event_shape != self.test.event_shape or self.train.dtype != self.test.dtype:
            raise ValueError(
                f"{self.name}: train and test examples must have the same shape and type, got "
                f"{list(self.train.event_shape)} "
                f"{self.train.dtype} and {list(self.test.event_shape)} {self.test.dtype}"
            )

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one example, without the batch dimension."""
        return self.train.event_shape

    @property
    def event_numel(self) -> int:
        """Numbers in one example: the dimensions that bits per dimension divide by."""
        return math.prod(self.event_shape)

    @property
    def log_jacobian_nats(self) -> float | None:
        """See ``Preprocess.log_jacobian_nats``; None if bits per dimension are not defined."""
        return self.preprocess.log_jacobian_nats(self.event_numel)

    @property
    def condition_dim(self) -> int:
        """Numbers in an example's condition; 0 for none."""
        return 0 if self.conditions is None else self.conditions.size

    @cached_property
    def train_mean(self) -> Tensor | None:
        """Mean of ``x`` over the training set and the noise, float32 ``[*event_shape]``; reads it all once.

        If the training set is not in memory, it is the mean of a few thousand examples.

        None if the kind of data has no such mean.
        """
        total = torch.zeros(self.event_shape, dtype=torch.float64)
        for indices in (taken := looked_at(self.train)):
            mean = self.preprocess.mean(self.train[indices])
            if mean is None:
                return None
            total += mean * len(indices)
        return (total / sum(map(len, taken))).to(torch.float32)

    @property
    def model_inputs(self) -> ModelInputs:
        """Sizes that a model of these data depends on, including the condition."""
        return replace(
            self.inputs or ModelInputs(event_shape=self.event_shape),
            event_shape=self.event_shape,
            condition_dim=self.condition_dim,
            condition_columns={} if self.conditions is None else self.conditions.column_ranges,
        )

    def known_fields(self) -> tuple[Field, ...]:
        """Return the fields that a condition may have: the label, if there is one, and those of the kind of data."""
        labels = self.train.labels
        if labels is None:
            return self.fields
        names = self.label_names or tuple(str(label) for label in range(int(labels.max()) + 1))
        return (ConditionField("label", names), *self.fields)


def condition_on(data: Data, names: Sequence[str]) -> Data:
    """Return ``data`` with batches conditioned on these fields; unchanged if there are none.

    Raises:
        ValueError: the data do not have one of the fields.
    """
    if not names:
        return data
    conditions = choose_fields(data.known_fields(), names, data.name)
    train, test = (conditioned(source, conditions) for source in (data.train, data.test))
    return replace(data, train=train, test=test, conditions=conditions)
