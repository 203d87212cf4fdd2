"""The data of a run: training and test examples, and how a batch is made of them."""

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
    """Training and test examples, and how a batch is made of them."""

    name: str
    train: Source
    test: Source
    preprocess: Preprocessor
    kind: str = "pixels"
    """The name of a kind of `fastvae.data.KINDS`, which decides how examples are shown; pixels: also plain numbers."""
    label_names: tuple[str, ...] | None = None
    """What the labels stand for."""
    fields: tuple[Field, ...] = ()
    """What a condition may say, beside the label."""
    conditions: Conditions | None = None
    """What the batches' condition says; None: nothing."""
    inputs: ModelInputs | None = None
    """The facts that shape a model of these data, without the condition; None where the event's shape is enough."""
    state: State = field(default_factory=dict)
    """Files that are saved with a run and handed back when it is loaded: a tokenizer, scales, titles."""
    notes: tuple[str, ...] = ()
    """Lines that training prints at its start: what was read, what was passed over, what each column was taken for."""

    def __post_init__(self) -> None:
        if self.train.event_shape != self.test.event_shape or self.train.dtype != self.test.dtype:
            raise ValueError(
                f"{self.name}: train and test examples must be alike, got {list(self.train.event_shape)} "
                f"{self.train.dtype} and {list(self.test.event_shape)} {self.test.dtype}"
            )

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one example, without the batch."""
        return self.train.event_shape

    @property
    def event_numel(self) -> int:
        """Numbers in one example: the dimensions that bits per dimension divide by."""
        return math.prod(self.event_shape)

    @property
    def log_jacobian_nats(self) -> float | None:
        """See ``Preprocess.log_jacobian_nats``; None where bits per dimension do not exist."""
        return self.preprocess.log_jacobian_nats(self.event_numel)

    @property
    def condition_dim(self) -> int:
        """Numbers in an example's condition; 0 for none."""
        return 0 if self.conditions is None else self.conditions.size

    @cached_property
    def train_mean(self) -> Tensor | None:
        """Mean of ``x`` over the training set and the noise, float32 ``[*event_shape]``; reads it all once.

        Where the training set is not in memory, it is the mean of a few thousand examples.

        None where the kind of data has no such mean.
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
        """What a model must know of these data, the condition included."""
        return replace(
            self.inputs or ModelInputs(event_shape=self.event_shape),
            event_shape=self.event_shape,
            condition_dim=self.condition_dim,
            condition_columns={} if self.conditions is None else self.conditions.places,
        )

    def known_fields(self) -> tuple[Field, ...]:
        """What a condition may say: the label where the examples have one, and what this kind of data adds."""
        labels = self.train.labels
        if labels is None:
            return self.fields
        names = self.label_names or tuple(str(label) for label in range(int(labels.max()) + 1))
        return (ConditionField("label", names), *self.fields)


def condition_on(data: Data, names: Sequence[str]) -> Data:
    """``data`` whose batches carry the condition of these names; as it is where there are none.

    Raises:
        ValueError: the data know no field of such a name.
    """
    if not names:
        return data
    conditions = choose_fields(data.known_fields(), names, data.name)
    train, test = (conditioned(source, conditions) for source in (data.train, data.test))
    return replace(data, train=train, test=test, conditions=conditions)
