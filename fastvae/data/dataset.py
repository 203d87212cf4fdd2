"""The data of a run: training and test examples, and how batches are built from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from fastvae.data.condition import ConditionField, Conditions, Field, choose_fields, conditioned
from fastvae.data.loading.bad_examples import read_good
from fastvae.data.loading.settings import Loading
from fastvae.data.order import order_index
from fastvae.data.preprocess import Preprocessor
from fastvae.data.source import Source
from fastvae.data.views import looked_at, take
from fastvae.model_inputs import ModelInputs

State = Mapping[str, bytes]  # files, by name, that a run keeps of its data

_SPLIT_SEED = 0  # not the run's: all runs on the same data have the same validation set


@dataclass(frozen=True, kw_only=True)
class Data:
    """Training and test examples, and how batches are built from them."""

    name: str
    train: Source
    test: Source
    preprocess: Preprocessor
    validation: Source | None = None
    """Examples for decisions during training, such as early stopping; training does not use them. None for none."""
    untrimmed: Source | None = None
    """All training examples, if some are left out of ``train`` and ``validation`` because they may be anomalies."""
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
    loading: Loading = field(default_factory=Loading)
    """Worker processes that read the training examples."""
    state: State = field(default_factory=dict)
    """Files that are saved with a run and passed back when it is loaded: a tokenizer, scales, titles."""
    notes: tuple[str, ...] = ()
    """Lines that training prints at its start: what was read, what was skipped, how each column was interpreted."""

    def __post_init__(self) -> None:
        for what, other in (("test", self.test), ("validation", self.validation)):
            if other is None or (self.train.event_shape == other.event_shape and self.train.dtype == other.dtype):
                continue
            raise ValueError(
                f"{self.name}: train and {what} examples must have the same shape and type, got "
                f"{list(self.train.event_shape)} {self.train.dtype} and {list(other.event_shape)} {other.dtype}"
            )

    @property
    def all_train(self) -> Source:
        """All training examples, also those that are left out of training."""
        return self.train if self.untrimmed is None else self.untrimmed

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
        total, num_all = torch.zeros(self.event_shape, dtype=torch.float64), 0
        for indices in looked_at(self.train):
            raw, number = read_good(self.train, indices, self.loading.on_bad_example)
            mean = self.preprocess.mean(raw)
            if mean is None:
                return None
            total, num_all = total + mean * number, num_all + number
        return (total / num_all).to(torch.float32)

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
    validation, untrimmed = (
        None if source is None else conditioned(source, conditions) for source in (data.validation, data.untrimmed)
    )
    return replace(data, train=train, test=test, validation=validation, untrimmed=untrimmed, conditions=conditions)


def hold_out(data: Data, share: float) -> Data:
    """Return data whose validation set is a share of the training examples, which are removed from them.

    The examples are chosen by a keyed permutation of their indices. The choice depends on nothing else, so runs with
    other seeds or numbers of processes have the same validation set.

    Args:
        data: data without a validation set.
        share: share of the training examples, in (0, 1); at least one example is held out.

    Raises:
        ValueError: the share is out of its range, or there are fewer than two examples.
    """
    num_all = len(data.train)
    if not 0 < share < 1:
        raise ValueError(f"hold_out: share must be in (0, 1), got {share}")
    if num_all < 2:
        raise ValueError(f"hold_out: {data.name} has {num_all} training example, and a validation set needs one of two")
    num_held = min(max(round(share * num_all), 1), num_all - 1)
    order = order_index(torch.arange(num_all), num_all, _SPLIT_SEED)
    held, rest = order[:num_held].sort().values, order[num_held:].sort().values
    note = (
        f"validation: {num_held:,} of the {num_all:,} training examples ({num_held / num_all:.1%}); the other "
        f"{num_all - num_held:,} are trained on"
    )
    train, validation = take(data.train, rest), take(data.train, held)
    return replace(data, train=train, validation=validation, notes=(*data.notes, note))
