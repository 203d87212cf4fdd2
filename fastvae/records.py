"""The records that data, models and objectives hand to each other."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Protocol

import torch
from torch import Tensor

PAD, BEGIN, END, UNKNOWN = 0, 1, 2, 3
"""Ids of the tokens that are no text: padding, the start and the end of a sentence, a word that is not known."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some examples of one global batch, as a model reads them."""

    x: Tensor  # [B, ...] what the encoder reads
    target: Tensor  # [B, ...] what the likelihood scores; x itself unless the data say otherwise
    condition: Tensor | None = None  # [B, ...] what encoder and decoder are told beside x
    mask: Tensor | None = None  # [B, ...] 1 where target counts, 0 where it does not
    lengths: Tensor | None = None  # [B] int64, for sequences
    rows: Tensor | None = None  # [B] int64, each example's index in its data set
    dropout_key: Tensor | None = None  # int64 [3], where training drops units or inputs: the key of that noise

    def __len__(self) -> int:
        return self.x.shape[0]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """This batch on ``device``; the record itself if it is there already."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = {name: t.to(device, non_blocking=non_blocking) for name, t in tensors.items() if t is not None}
        return replace(self, **moved)


@dataclass(frozen=True, kw_only=True)
class VAETerms:
    """What one forward pass of a VAE gives: the two halves of the ELBO, apart, in nats per example."""

    z: Tensor  # [B, D], or [K, B, D] with K importance samples
    rate: Tensor  # [B] KL(q(z|x) || p(z)); with K samples [K, B] log q(z|x) - log p(z)
    distortion: Tensor  # [B] or [K, B], -log p(x|z)
    rate_per_dimension: Tensor | None = None  # [D] KL of each latent dimension, summed over the B examples


# DDP (static graph) and FSDP hook a forward's result, and find only tensors that PyTorch knows how to reach: without
# this a static graph would silently exchange no gradient.
torch.export.register_dataclass(VAETerms, serialized_type_name="fastvae.VAETerms")


class KeyedBatch(Protocol):
    """Some consecutive examples, and the key of their noise."""

    @property
    def batch(self) -> Batch:
        """The examples."""
        ...

    @property
    def key(self) -> Tensor:
        """int64 [3]: (seed, step, first_row), see `fastvae.noise_key`; in evaluation (seed, 0, first index)."""
        ...
