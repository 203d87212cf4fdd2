"""Sparse matrices of SciPy as examples: rows are made dense only when they are read."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastvae.data.source import Source, as_uint8_or_float32, check_labels


class SparseSource(Source):
    """Rows of a sparse matrix, read as dense examples ``[B, D]``, uint8 or float32.

    Args:
        matrix: a SciPy sparse matrix or array ``[N, D]`` of uint8, bool or floating point numbers.
        labels: int64 ``[N]``, or None.
        name: how error messages call it.

    Raises:
        ValueError: no rows or columns, NaN or infinity, or labels of another length.
        TypeError: other integers, or complex numbers.
    """

    def __init__(self, matrix: Any, labels: Tensor | None = None, *, name: str = "data") -> None:
        if len(matrix.shape) != 2 or 0 in matrix.shape:
            raise ValueError(f"{name}: a sparse matrix must be [N, D], both at least 1, got shape {list(matrix.shape)}")
        rows = matrix.tocsr(copy=True)
        rows.sum_duplicates()
        self._crow = torch.from_numpy(rows.indptr.astype(np.int64))
        self._columns = torch.from_numpy(rows.indices.astype(np.int64))
        self._values = _checked(torch.from_numpy(rows.data), self._crow, name)
        self._labels = None if labels is None else check_labels(labels, matrix.shape[0], name)
        self.event_shape, self.dtype, self.levels = (int(matrix.shape[1]),), self._values.dtype, None
        if self.dtype == torch.uint8:
            self.levels = 256 if len(self._values) and int(self._values.max()) > 1 else 2

    def __len__(self) -> int:
        return len(self._crow) - 1

    def __getitem__(self, indices: Tensor) -> Tensor:
        starts, stops = self._crow[indices], self._crow[indices + 1]
        dense = torch.zeros((len(indices), *self.event_shape), dtype=self.dtype)
        lengths = stops - starts
        rows = torch.repeat_interleave(torch.arange(len(indices)), lengths)
        first = torch.cumsum(lengths, 0) - lengths
        places = torch.arange(int(lengths.sum())) + torch.repeat_interleave(starts - first, lengths)
        dense[rows, self._columns[places]] = self._values[places]
        return dense

    @property
    def labels(self) -> Tensor | None:
        """int64 ``[N]``, or None."""
        return self._labels


def _checked(values: Tensor, crow: Tensor, name: str) -> Tensor:
    """The stored values, each as an example to be checked; an error names the row."""
    if values.is_floating_point() and not bool((finite := values.float().isfinite()).all()):
        row = int((crow <= int((~finite).nonzero()[0])).sum()) - 1
        raise ValueError(f"{name}: every number must be finite in float32, got NaN or infinity in example {row}")
    return as_uint8_or_float32(values.unsqueeze(1), name).squeeze(1)
