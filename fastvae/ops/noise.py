"""Where noise comes from: the key of a batch, and the stream of a use.

Noise is a pure function of (seed, step, row of the global batch, column, stream). Nothing reads a global generator.
"""

from __future__ import annotations

import operator
from enum import IntEnum

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


def noise_key(seed: int, step: int = 0, first_row: int = 0, *, device: torch.device | str | None = None) -> Tensor:
    """The key of one batch's noise, as the operators take it.

    Args:
        seed: The run's seed, 0 <= seed < 2**32.
        step: The training step, 0 <= step < 2**32. Evaluation uses step 0 and the evaluation bit of ``stream``.
        first_row: Where the batch's first example lies in the global batch (in evaluation: in the data set),
            0 <= first_row < 2**62.
        device: Where the key lives: the device of the tensors that it goes with.

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
        use: What the noise is for: a member of ``Use`` (0 <= use < 128).
        site: Which layer or place draws it, 0 <= site < 256.
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
        # torch.compile (2.13) recurses without end in the index of an IntEnum, which is an int as it stands.
        number = value if isinstance(value, int) else operator.index(value)
    except TypeError:
        raise TypeError(f"{where}: {name} must be an integer, got {value!r} of type {type(value).__name__}") from None
    if not 0 <= number < limit:
        raise ValueError(f"{where}: {name} must be at least 0 and below 2**{limit.bit_length() - 1}, got {number}")
    return number
