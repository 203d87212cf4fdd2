"""The records that data, models and objectives exchange.

The records that frameworks traverse (`Batch`, `VAETerms`) is registered with PyTorch's pytrees, so that `torch.export`,
DDP and FSDP find the tensors in it, and with `default_collate`. It is not frozen, because Lightning Fabric's
``apply_to_collection`` copies a dataclass and sets the copy's fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data._utils.collate import collate, default_collate_fn_map

PAD, BEGIN, END, UNKNOWN = 0, 1, 2, 3
"""IDs of the special tokens: padding, the start and the end of a sentence, an unknown word."""

DistortionUnit = Literal["nats", "squared error"]
"""Units of a distortion: nats per example, or the squared error summed over an example's values."""

Record = TypeVar("Record")


@dataclass(eq=False, kw_only=True)
class Batch:
    """Examples of one global batch, as a model reads them.

    A data set may also return single examples as batches whose tensors have no ``[B]``: `default_collate`, which a
    ``DataLoader`` uses, stacks them.
    """

    x: Tensor  # [B, ...] what the encoder reads
    target: Tensor  # [B, ...] what the likelihood scores; x itself by default
    condition: Tensor | None = None  # [B, ...] condition of encoder and decoder
    mask: Tensor | None = None  # [B, ...] 1 where the target counts, 0 where it does not
    lengths: Tensor | None = None  # [B] int64, for sequences
    rows: Tensor | None = None  # [B] int64, each example's index in its data set
    dropout_key: Tensor | None = None  # int64 [3], noise key of dropout in training

    def __len__(self) -> int:
        return self.x.shape[0]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """Return this batch on ``device``; the record itself if it is there already."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = {name: t.to(device, non_blocking=non_blocking) for name, t in tensors.items() if t is not None}
        return replace(self, **moved)

    def pin_memory(self) -> Batch:
        """Return this batch in page-locked memory; called by ``DataLoader(pin_memory=True)``."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: t.pin_memory() for name, t in tensors.items() if t is not None})


class Draw(NamedTuple):
    """Sampling of z in a forward pass, and additional outputs: the third argument of a model's ``forward``.

    A named tuple and not a dataclass, because it must be immutable to be a default argument, and Lightning Fabric
    does not support frozen dataclasses among the arguments of a forward.
    """

    num_samples: int = 1
    """Number K of samples of z per example; for 1 the rate is in closed form if the prior has one."""
    first_sample: int = 0
    """Index of the first sample, so that chunks of a large K equal the whole bit for bit."""
    evaluation: bool = False
    """Use the noise of evaluation, which training never uses; dropout is disabled."""
    per_dimension: bool = False
    """Also return ``VAETerms.rate_per_dimension``; for K = 1 only."""
    reconstruction: bool = False
    """Also return ``VAETerms.reconstruction``."""


@dataclass(eq=False, kw_only=True)
class VAETerms:
    """Result of a forward pass: the two terms of the ELBO, and a separate penalty."""

    z: Tensor
    """Latents [B, ...], or [K, B, ...] with K importance samples."""
    rate: Tensor
    """KL(q(z|x) || p(z)), [B] nats; with K samples log q(z|x) - log p(z) of each, [K, B]."""
    distortion: Tensor
    """-log p(x|z), [B] or [K, B], in nats; for a model without a likelihood, another error."""
    rate_per_dimension: Tensor | None = None
    """KL of each latent dimension, summed over the B examples, [D]; D counts the elements of one latent."""
    penalty: Tensor | None = None
    """Penalty that is added to the loss but not to the ELBO, [B] or [K, B], such as a commitment loss."""
    reconstruction: Tensor | None = None
    """The decoder's mean, [B, ...] or [K, B, ...], with gradient, for a discriminator or a perceptual loss."""


# DDP (static graph) and FSDP hook a forward's result, and find only tensors in registered types: without
# this a static graph would silently exchange no gradient.
torch.export.register_dataclass(VAETerms, serialized_type_name="fastvae.VAETerms")
torch.export.register_dataclass(Batch, serialized_type_name="fastvae.Batch")
# torch.export.save writes the example inputs too, and torch.export.load reads registered classes only.
torch.serialization.add_safe_globals([Batch, VAETerms])


def stack_records(records: Sequence[Record], *, collate_fn_map: Any = None) -> Record:
    """Collate records: stack each field's tensors along a new first dimension.

    Raises:
        ValueError: a field is None in some of them only, or a record contains the noise key of a whole batch.
    """
    stacked: dict[str, Any] = {}
    for name in (field.name for field in fields(records[0])):  # type: ignore[arg-type]
        values = [getattr(record, name) for record in records]
        num_missing = sum(value is None for value in values)
        where = f"default_collate: {type(records[0]).__name__}.{name}"
        if 0 < num_missing < len(values):
            raise ValueError(f"{where} must be set in all {len(values)} examples or in none, got {num_missing} None")
        if name == "dropout_key" and not num_missing:
            raise ValueError(f"{where} belongs to a whole batch, got one in each example; set it after collation")
        stacked[name] = None if num_missing else collate(values, collate_fn_map=collate_fn_map)
    return type(records[0])(**stacked)


default_collate_fn_map.update({Batch: stack_records, VAETerms: stack_records})


@runtime_checkable
class HasMean(Protocol):
    """A posterior of any form, by its mean."""

    mu: Tensor
    """[B, ...]."""


class GenerativeModel(Protocol):
    """The methods and attributes of a model that fastvae uses. `fastvae.VAE` has all of them.

    A user's model only requires ``forward``, at least ``forward(batch, noise_key)``; other members are used if they
    exist, and errors name those that are missing when they are needed (`fastvae.generative.AnyModel`).
    """

    estimates_elbo: bool
    """Whether -(rate + distortion) is a bound on log p(x). If False, no ELBO and no NLL are reported."""
    distortion_unit: DistortionUnit
    """Unit of the distortion."""
    has_rate: bool
    """Whether the loss weighs a rate. If False, the rate is always 0, and no kl_weight is logged."""
    latent_shape: tuple[int, ...] | None
    """Shape of one example's z; None if unknown."""
    draws_at_temperature: bool
    """Whether ``generate`` takes a temperature."""

    def forward(self, batch: Batch, noise_key: Tensor, draw: Draw = Draw()) -> VAETerms:
        """Rate and distortion of each example."""
        ...

    def encode(self, batch: Batch) -> Any:
        """The posterior of each example, which has ``mu`` and ``logvar`` [B, ...], or only its code [B, ...]."""
        ...

    def kl_per_dimension(self, posterior: Any) -> Tensor | None:
        """KL to the prior of each latent dimension, summed over the B examples, [D]; None without a closed form."""
        ...

    def generate(self, z: Tensor, condition: Tensor | None = None, noise_key: Tensor | None = None) -> Tensor:
        """Examples [N, ...] of latents [N, ...]."""
        ...

    def reconstruct(self, batch: Batch) -> Tensor:
        """Each example through the latent and back, [B, ...]."""
        ...

    def draw_prior(self, num: int, noise_key: Tensor) -> Tensor:
        """Latents from the prior, [num, ...]; row i is a function of the key's seed and of its first_row + i."""
        ...

    def sample(self, num: int, noise_key: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """New examples, [num, ...]."""
        ...


class KeyedBatch(Protocol):
    """Consecutive examples and their noise key."""

    @property
    def batch(self) -> Batch:
        """The examples."""
        ...

    @property
    def key(self) -> Tensor:
        """int64 [3]: (seed, step, first_row), see `fastvae.noise_key`; in evaluation (seed, 0, first index)."""
        ...
