"""Where noise comes from: the key of a batch, and the stream of a use.

Noise is a pure function of (seed, step, row of the global batch, column, stream). Nothing reads a global generator.
"""

from __future__ import annotations

import operator
from enum import IntEnum, unique

import torch
from torch import Tensor

_WORD = 2**32
_ROWS = 2**62  # far beyond any data set, and first_row + local row still fits int64


class Use(IntEnum):
    """What a stream of noise is used for: seven bits of the stream, so that two uses never share a number."""

    LATENT = 0
    PIXELS = 1  # binarise or dequantise
    DROPOUT = 2
    AUGMENTATION = 3
    GENERATION = 4


# A site is the place within a use that draws. Two places that may read the same key have different sites; every site of
# the project is a member of one of these. Training and evaluation share sites: the evaluation bit keeps them apart.
@unique
class LatentSite(IntEnum):
    """Sites of `Use.LATENT`: draws of z from a posterior."""

    Z = 0  # the only layer, or the lower layer of a hierarchy
    TOP_Z = 1


@unique
class PixelSite(IntEnum):
    """Sites of `Use.PIXELS`."""

    PIXELS = 0


@unique
class DropoutSite(IntEnum):
    """Sites of `Use.DROPOUT`: the layer whose units are dropped."""

    INPUT = 0  # words or items that the network reads
    EMBEDDING = 1
    LAYERS = 2  # a base: dropout number i after the embedding has site LAYERS + i, see `layer`

    @classmethod
    def layer(cls, index: int) -> int:
        """The site of dropout number ``index`` after the embedding, from 0; a Transformer block has two."""
        return cls.LAYERS + index


@unique
class AugmentationSite(IntEnum):
    """Sites of `Use.AUGMENTATION` in training."""

    DELAY = 0
    GAIN = 1
    IMAGE = 2  # crop, flip and colours


@unique
class SplitSite(IntEnum):
    """Sites of `Use.AUGMENTATION` with the evaluation bit: how examples are split before they are scored."""

    HELD_OUT_ITEMS = 1


@unique
class GenerationSite(IntEnum):
    """Sites of `Use.GENERATION`: draws of a finished model."""

    PRIOR = 0  # z from the prior (of a hierarchy: the top layer's), and variations of a given z
    EVENT = 1  # x from p(x|z)
    LOWER_PRIOR = 2  # the lower layer of a hierarchy, given the top one
    PHASE = 3  # the first phases of a waveform that is rebuilt from a spectrogram


def noise_key(seed: int, step: int = 0, first_row: int = 0, *, device: torch.device | str | None = None) -> Tensor:
    """The key of one batch's noise, as the operators take it.

    Args:
        seed: The run's seed, 0 <= seed < 2**32.
        step: The training step, 0 <= step < 2**32. Evaluation uses step 0 and the evaluation bit of ``stream``.
        first_row: Index of the batch's first example in the global batch (in evaluation: in the data set),
            0 <= first_row < 2**62.
        device: The key's device: that of the tensors that it is used with.

    Returns:
        int64 ``[3]``: (seed, step, first_row).

    Raises:
        TypeError: A number is not an integer.
        ValueError: A number is out of its range.
    """
    words = (
        _in_range("noise_key", "seed", seed, _WORD),
        _in_range("noise_key", "step", step, _WORD),
        _in_range("noise_key", "first_row", first_row, _ROWS),
    )
    return torch.tensor(words, dtype=torch.int64, device=device)


def stream(use: int, site: int = 0, sample: int = 0, evaluation: bool = False) -> int:
    """One uint32 that keeps the noise of different uses apart: evaluation << 31 | use << 24 | site << 16 | sample.

    Args:
        use: The purpose of the noise: a member of ``Use`` (0 <= use < 128).
        site: The place that draws it, 0 <= site < 256: a member of the use's enum, such as ``LatentSite``.
        sample: The first importance sample, 0 <= sample < 65536; operators with K samples add theirs.
        evaluation: Whether a score is computed rather than a training step.

    Raises:
        TypeError: A number is not an integer.
        ValueError: A number is out of its range.
    """
    return (
        int(bool(evaluation)) << 31
        | _in_range("stream", "use", use, 2**7) << 24
        | _in_range("stream", "site", site, 2**8) << 16
        | _in_range("stream", "sample", sample, 2**16)
    )


def _in_range(where: str, name: str, value: int, limit: int) -> int:
    try:
        # torch.compile cannot trace operator.index of an enum's member, and Use is one.
        number = int(value) if isinstance(value, int) else operator.index(value)
    except TypeError:
        raise TypeError(f"{where}: {name} must be an integer, got {value!r} of type {type(value).__name__}") from None
    if not 0 <= number < limit:
        raise ValueError(f"{where}: {name} must be at least 0 and below 2**{limit.bit_length() - 1}, got {number}")
    return number
