"""The scale of the data, as the cause of a loss that is not finite in the first steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastvae.generative import AnyModel
from fastvae.records import KeyedBatch

_LARGE = 50.0
"""Largest magnitude of examples that are scaled: standardised numbers and pixels in [0, 1] are far below it."""


def scale_advice(model: nn.Module, micro_batches: Sequence[KeyedBatch]) -> str | None:
    """The remedy for data on a large scale, or None if the examples are scaled or are not numbers.

    Args:
        model: the model, whose likelihood decides whether its data can be standardised.
        micro_batches: the examples of a step on this rank.
    """
    found = [_largest(micro.batch.x) for micro in micro_batches]
    known = [each for each in found if each is not None]
    if not known:
        return None
    magnitude, column = max(known)
    if magnitude <= _LARGE:
        return None
    where = "" if column is None else f" (column {column})"
    likelihood = AnyModel(model).likelihood
    if likelihood is not None and likelihood.support.is_whole:
        remedy = "let the encoder read torch.log1p(x): counts cannot be standardised under this likelihood"
    else:
        remedy = "standardise each column before training, x = (x - x.mean(0)) / x.std(0), or divide pixels by 255"
    return f"the data are on a large scale, with values of up to {magnitude:.3g}{where}: {remedy}"


def _largest(x: Tensor) -> tuple[float, int | None] | None:
    """The largest magnitude and, for rows of numbers [B, P], its column; None for IDs of tokens and empty batches."""
    if x.layout != torch.strided:
        x = x.values()
    if not x.is_floating_point() or not x.numel():
        return None
    magnitudes = x.abs().nan_to_num(nan=0.0)
    if x.dim() != 2:
        return float(magnitudes.max()), None
    largest, column = magnitudes.amax(0).max(0)
    return float(largest), int(column)
