"""Philox4x32-10 and Box-Muller in plain PyTorch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
# Philox's multipliers minus 2**32: with them no product overflows int64 (|x * c| < 2**62).
_MULTIPLIERS = (0xD2511F53 - 2**32, 0xCD9E8D57 - 2**32)
_WEYL = (0x9E3779B9, 0xBB67AE85)


def philox4x32_10(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3).

    Counter and key words are int64 tensors that hold uint32 values and broadcast; so are the four returned words.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = _multiply(c0, _MULTIPLIERS[0])
        high1, low1 = _multiply(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def _multiply(x: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """The high and the low word of x * (multiplier + 2**32), exactly."""
    product = x * multiplier
    return x + (product >> 32), product & _MASK


def _philox_blocks(key: Tensor, rows: int, columns: int, stream: int | Tensor) -> tuple[Tensor, ...]:
    """Four words, each [rows, ceil(columns / 4)]: block j of a row serves its columns 4j to 4j + 3.

    A stream that is a tensor [K, 1, 1] puts K in front of every shape here.
    """
    seed, step, first_row = key.unbind()
    row = (first_row + torch.arange(rows, device=key.device)).unsqueeze(1)
    # Plus 0 from memory: torch.compile's inductor folds products of a bare arange in too few bits.
    block = torch.arange((columns + 3) // 4, device=key.device) + (seed & 0)
    stream_word = stream if isinstance(stream, Tensor) else torch.full_like(seed, stream)
    counter = (block, row & _MASK, (row >> 32) & _MASK, stream_word)
    return philox4x32_10(counter, (seed & _MASK, step & _MASK))


def _first_columns(blocks: Tensor, columns: int) -> Tensor:
    """[rows, blocks, 4] -> [rows, columns]"""
    return blocks.flatten(-2)[..., :columns].contiguous()


def philox_integers(key: Tensor, rows: int, columns: int, stream: int) -> Tensor:
    """The words [rows, columns], in the order of their columns."""
    return _first_columns(torch.stack(_philox_blocks(key, rows, columns, stream), dim=-1), columns)


def philox_uniform(key: Tensor, rows: int, columns: int, stream: int) -> Tensor:
    """(word + 1/2) / 2**32, below 1 in float32 too."""
    # In float32 the largest 128 words would round to 1; they give the number below it instead.
    return _uniform(philox_integers(key, rows, columns, stream), torch.float32).clamp(max=1 - 2**-24)


def philox_uniform_at(key: Tensor, rows: Tensor, columns: Tensor, stream: int) -> Tensor:
    """The same uniforms for single elements [N]: each element computes its own block and takes its word."""
    seed, step, first_row = key.unbind()
    row, column = first_row + rows, columns.long()
    counter = (column // 4, row & _MASK, (row >> 32) & _MASK, torch.full_like(row, stream))
    words = torch.stack(philox4x32_10(counter, (seed & _MASK, step & _MASK)), dim=-1)
    word = words.gather(-1, (column % 4).unsqueeze(-1)).squeeze(-1)
    return _uniform(word, torch.float32).clamp(max=1 - 2**-24)


def philox_normal(
    key: Tensor, rows: int, columns: int, stream: int | Tensor, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Standard normals [rows, columns]: words 0 and 1 of a block make one pair, words 2 and 3 the other."""
    word0, word1, word2, word3 = _philox_blocks(key, rows, columns, stream)
    radius_words, angle_words = torch.stack((word0, word2), dim=-1), torch.stack((word1, word3), dim=-1)
    return _first_columns(box_muller(radius_words, angle_words, dtype).flatten(-2), columns)


def box_muller(radius_words: Tensor, angle_words: Tensor, dtype: torch.dtype) -> Tensor:
    """Two normals of two words (Box & Muller 1958), the cosine's first, along a new last dimension."""
    # log u where u is small, log1p(-(1 - u)) where it is near 1 and a float32 could not hold it.
    below_half = radius_words < 2**31
    log_u = torch.where(
        below_half,
        torch.log(_uniform(radius_words, dtype)),
        torch.log1p(-_uniform(_MASK - radius_words, dtype)),
    )
    radius = torch.sqrt(-2 * log_u)
    angle = 2 * math.pi * _uniform(angle_words, dtype)
    return torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), dim=-1)


def _uniform(words: Tensor, dtype: torch.dtype) -> Tensor:
    """(word + 1/2) / 2**32: the middle of the word's cell."""
    return words.to(dtype) * 2**-32 + 2**-33
