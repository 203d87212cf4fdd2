"""Write npz files whose arrays arrive in chunks of rows."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fastvae.train.run_dir.files import replacing


def write_npz(path: Path, chunks: Iterable[Mapping[str, Tensor]]) -> int:
    """Write arrays by name, of which each chunk has some rows; memory holds one chunk.

    The arrays are collected in temporary files in the folder of ``path``, because an npz file has one array after the
    other. The file appears when it is complete.

    Args:
        path: the file to write, whatever its suffix.
        chunks: tensors [B, ...] by name; those of a name differ in B only.

    Returns:
        The number of rows.

    Raises:
        ValueError: there are no chunks, or the tensors of a name differ in type or shape.
    """
    with ExitStack() as stack:
        arrays: dict[str, _Array] = {}
        for chunk in chunks:
            for name, tensor in chunk.items():
                rows = tensor.numpy()
                if name not in arrays:
                    file = stack.enter_context(tempfile.TemporaryFile(dir=path.parent))
                    arrays[name] = _Array(file, rows.dtype, rows.shape[1:])
                arrays[name].add(name, rows)
        if not arrays:
            raise ValueError(f"{path}: an npz file requires at least one chunk of rows, got none")
        with replacing_file(path) as target, zipfile.ZipFile(target, "w", allowZip64=True) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    array.copy_to(member)
        return next(iter(arrays.values())).num_rows


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Like `replacing`; what is not a regular file, such as a pipe, is written to directly."""
    if path.exists() and not path.is_file():
        yield path
        return
    with replacing(path.resolve()) as temporary:
        yield temporary


@dataclass
class _Array:
    """Rows of one array in a temporary file."""

    file: IO[bytes]
    dtype: np.dtype[Any]
    event_shape: tuple[int, ...]
    num_rows: int = 0

    def add(self, name: str, rows: NDArray[Any]) -> None:
        if rows.dtype != self.dtype or rows.shape[1:] != self.event_shape:
            raise ValueError(
                f"{name}: all rows must be {self.dtype} of shape {list(self.event_shape)}, got {rows.dtype}"
                f" {list(rows.shape[1:])}"
            )
        self.file.write(rows.tobytes())
        self.num_rows += len(rows)

    def copy_to(self, member: IO[bytes]) -> None:
        shape = (self.num_rows, *self.event_shape)
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(member, header)
        self.file.seek(0)
        shutil.copyfileobj(self.file, member)
