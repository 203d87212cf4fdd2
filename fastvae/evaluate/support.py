"""Check once, before the first step, that the data are in the likelihood's support."""

from __future__ import annotations

import torch
from torch import nn

from fastvae.data import Data, Source, load_examples
from fastvae.data.pixels.preprocess import Preprocess
from fastvae.data.views import looked_at
from fastvae.generative import AnyModel
from fastvae.likelihoods.support import Support
from fastvae.records import Batch

_ROWS = 1024  # examples that are checked together


def support_of(model: nn.Module) -> Support | None:
    """The support of a model's likelihood; None without a likelihood, or for one without a declared support."""
    likelihood = AnyModel(model).likelihood
    return None if likelihood is None else likelihood.support


def check_support(model: nn.Module, data: Data) -> None:
    """Check the targets once: all of those in memory, some thousands of others.

    Raises:
        ValueError: a target is outside of the likelihood's support (the message names its example), or the data are
            binarised and the likelihood is a density.
    """
    support = support_of(model)
    if support is None:
        return
    name = type(model.likelihood).__name__
    pixels = data.preprocess if isinstance(data.preprocess, Preprocess) else None
    if support.is_density and pixels is not None and pixels.binarize:
        raise ValueError(
            f"{data.name}: binarised pixels are 0 or 1, and the likelihood {name} is a density of real numbers: its"
            " values are not meaningful; use --data.binarize none, or --model.likelihood bernoulli"
        )
    if support.is_everything or (pixels is not None and _is_certain(pixels, support)):
        return
    for part, source in (("training", data.train), ("test", data.test)):
        _check_source(support, name, data, source, part)


def check_examples(model: nn.Module, data: Data, source: Source, name: str) -> None:
    """The same for other examples that are passed to a finished run.

    Raises:
        ValueError: a number is outside of the likelihood's support.
    """
    support = support_of(model)
    pixels = data.preprocess if isinstance(data.preprocess, Preprocess) else None
    if support is None or support.is_everything or (pixels is not None and _is_certain(pixels, support)):
        return
    _check_source(support, type(model.likelihood).__name__, data, source, name)


def _is_certain(pixels: Preprocess, support: Support) -> bool:
    """Whether every target is in the support by construction."""
    in_unit = pixels.levels is not None or pixels.binarize
    if support.levels is not None:
        return support.levels == pixels.exact_levels
    return in_unit and not support.is_whole and support.low <= 0 and support.high >= 1


def _check_source(support: Support, name: str, data: Data, source: Source, part: str) -> None:
    for all_indices in looked_at(source):
        for indices in all_indices.split(_ROWS):
            found = _first_outside(support, load_examples(source, data.preprocess, indices, seed=0))
            if found is not None:
                row, value = found
                raise ValueError(
                    f"{data.name}: under the likelihood {name} every value must be {support.description}, got "
                    f"{value:g} in"
                    f" {part} example {int(indices[row])}; {_remedy(support, value)}"
                )


def _first_outside(support: Support, batch: Batch) -> tuple[int, float] | None:
    """The row and the value of the first number of a batch that is outside; None if there is none."""
    target = batch.target
    if target.layout == torch.sparse_csr:
        places = support.outside(target.values()).nonzero().flatten()
        if not len(places):
            return None
        row = int((target.crow_indices() <= places[0]).sum()) - 1
        return row, float(target.values()[places[0]])
    wrong = support.outside(target)
    wrong = wrong if batch.mask is None else wrong & batch.mask.bool().expand_as(wrong)
    if not bool(wrong.any()):
        return None
    first = wrong.nonzero()[0].tolist()
    return first[0], float(target[tuple(first)])


def _remedy(support: Support, value: float) -> str:
    if support.is_whole:
        return "give counts, or use another --model.likelihood, such as gaussian"
    if support.levels is not None:
        return "give 8-bit pixels as unsigned 8-bit integers, or use --model.likelihood gaussian"
    scale = (
        ", or scale them (pixels up to 255: give unsigned 8-bit integers)" if 1 < value <= 255 else ", or scale them"
    )
    return f"use --model.likelihood gaussian{scale}"
