"""The noise by itself: the words of Philox4x32-10 as integers, uniforms and normals.

Element (i, j) is a function only of the key, the row first_row + i of the global batch, the column j and the stream.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastvae.ops import reference
from fastvae.ops._checks import check_columns, check_key, check_out, check_size, check_stream
from fastvae.ops._library import define, register_mapped
from fastvae.ops._transforms import Mapped


def _fake(dtype: torch.dtype) -> Any:
    def fake(key: Tensor, rows: int, columns: int, stream: int) -> Tensor:
        return key.new_empty((rows, columns), dtype=dtype)

    return fake


def _float32_normal(key: Tensor, rows: int, columns: int, stream: int) -> Tensor:
    return reference.philox_normal(key, rows, columns, stream)


def _fill_with_normal(noise: Tensor, key: Tensor, stream: int) -> None:
    noise.copy_(_normal(key, noise.shape[0], noise.shape[1], stream))


_ARGUMENTS = "(Tensor key, SymInt rows, SymInt columns, int stream) -> Tensor"
_normal = define("philox_normal" + _ARGUMENTS, _float32_normal, _fake(torch.float32))
_uniform = define("philox_uniform" + _ARGUMENTS, reference.philox_uniform, _fake(torch.float32))
_normal_into = define(
    "philox_normal_(Tensor(a!) noise, Tensor key, int stream) -> ()", _fill_with_normal, lambda noise, key, stream: None
)
_integers = define("philox_integers" + _ARGUMENTS, reference.philox_integers, _fake(torch.int64))
for _op in (_normal, _uniform, _integers):  # each mapped key has its own noise
    register_mapped(_op, Mapped(gradients=0, key=0, find_rows=lambda args: None))


def philox_normal(key: Tensor, rows: int, columns: int, *, stream: int = 0, out: Tensor | None = None) -> Tensor:
    """Standard normal noise, a pure function of its arguments; the operators named ``rsample`` scale and add it.

    Words 0 and 1 of a Philox block give its first two columns by Box & Muller (1958), cosine first, and words 2 and 3
    the other two. |noise| <= 6.77, and never infinite.

    Args:
        key: int64 ``[3]`` from ``noise_key``; the noise is on its device.
        rows: Number of rows; row i is the global batch's row first_row + i.
        columns: Number of columns, at most 2**34.
        stream: What the noise is for, from ``fastvae.ops.stream``.
        out: The tensor for the noise: float32 ``[rows, columns]``, contiguous, on the key's device.

    Returns:
        float32 ``[rows, columns]``: ``out`` if it is given.

    Raises:
        TypeError, ValueError: The key or out has another dtype or shape, or a number is out of its range.
    """
    _check("philox_normal", key, rows, columns, stream)
    if out is not None:
        check_out("philox_normal", out, (rows, columns), key.device)
        _normal_into(out, key, stream)
        return out
    noise: Tensor = _normal(key, rows, columns, stream)
    return noise


def philox_uniform(key: Tensor, rows: int, columns: int, *, stream: int = 0) -> Tensor:
    """Uniform noise strictly inside (0, 1): word * 2**-32 + 2**-33 in float32, 1 - 2**-24 where that rounds to 1.

    The same bits on every backend. Arguments and errors are those of ``philox_normal``.

    Returns:
        float32 ``[rows, columns]``.
    """
    _check("philox_uniform", key, rows, columns, stream)
    noise: Tensor = _uniform(key, rows, columns, stream)
    return noise


def philox_integers(key: Tensor, rows: int, columns: int, *, stream: int = 0) -> Tensor:
    """The words themselves: Philox4x32-10 (Salmon et al. 2011).

    The key words are (seed, step), the counter words (column // 4, row & 0xffffffff, row >> 32, stream). The same
    bits on every backend. Arguments and errors are those of ``philox_normal``.

    Returns:
        int64 ``[rows, columns]`` of values 0 to 2**32 - 1: word column % 4 of its block.
    """
    _check("philox_integers", key, rows, columns, stream)
    words: Tensor = _integers(key, rows, columns, stream)
    return words


def philox_uniform_at(key: Tensor, rows: Tensor, columns: Tensor, *, stream: int = 0) -> Tensor:
    """Single elements of ``philox_uniform``, bit for bit: for sparse data, whose dense noise would not fit in memory.

    Args:
        key: int64 ``[3]`` from ``noise_key``.
        rows: int64 ``[N]``, each element's local row; its row of the global batch is first_row + row.
        columns: integers ``[N]``, each element's column, at most 2**34.
        stream: What the noise is for, from ``fastvae.ops.stream``.

    Returns:
        float32 ``[N]``, element n that of row ``rows[n]`` and column ``columns[n]``.

    Raises:
        TypeError, ValueError: The key has another dtype or shape, rows and columns differ in shape, or stream is out of
            its range.
    """
    check_key("philox_uniform_at", key)
    check_stream("philox_uniform_at", stream)
    if rows.shape != columns.shape:
        raise ValueError(
            f"philox_uniform_at: columns must have rows' shape {list(rows.shape)}, got {list(columns.shape)}"
        )
    return reference.philox_uniform_at(key, rows, columns, stream)


def _check(where: str, key: Tensor, rows: int, columns: int, stream: int) -> None:
    check_key(where, key)
    check_size(where, "rows", rows)
    check_size(where, "columns", columns)
    check_columns(where, columns)
    check_stream(where, stream)
