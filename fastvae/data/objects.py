"""Objects in memory as examples: the one place where arrays, tensors, lists, images and sparse matrices are converted.

The libraries that define them (pandas, polars, SciPy, Pillow) are recognised by their types and are not imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from fastvae.data.files.mapped import MappedSource
from fastvae.data.source import (
    DatasetSource,
    Source,
    TensorSource,
    as_uint8_or_float32,
    check_array_shape,
    is_number,
)
from fastvae.data.sparse import SparseSource


def as_source(data: Any, *, name: str = "data") -> Source:
    """A source of anything that holds examples.

    Args:
        data: a ``Source`` (returned unchanged), an array or tensor ``[N, ...]`` (a ``numpy.memmap`` is read on
            demand), a pair ``(examples, labels)``, a
            ``TensorDataset``, a SciPy sparse matrix ``[N, D]``, a list of arrays, numbers or Pillow images, or any
            indexable data set whose items are ``x`` or ``(x, y)``.
        name: how error messages call it.

    Raises:
        ValueError: empty data, NaN or infinity, items of different shapes, masked values.
        TypeError: another kind of object; the message has the remedy.
    """
    if isinstance(data, Source):
        return data
    _refuse(data, name)
    if isinstance(data, TensorDataset):
        examples, *others = data.tensors
        labels = next((tensor for tensor in others if tensor.ndim == 1 and not tensor.is_floating_point()), None)
        return TensorSource(to_tensor(examples, name), labels, name=name)
    if is_labelled(data):
        return _labelled(data[0], to_tensor(data[1], f"{name} labels"), name)
    if is_array(data):
        return _array_source(data, None, name)
    if is_sparse(data):
        return SparseSource(data, name=name)
    if is_image(data) or (isinstance(data, list | tuple) and len(data) and is_image(data[0])):
        from fastvae.data.files.image_files import stack_images  # imported here: it imports Pillow

        return TensorSource(stack_images(data if isinstance(data, list | tuple) else [data], name), name=name)
    if isinstance(data, list):
        items = DatasetSource(data, name=name)
        return TensorSource(items[torch.arange(len(items))], items.labels, name=name)
    return DatasetSource(data, name=name)


def is_array(value: Any) -> bool:
    """Whether a value is a NumPy array or a tensor."""
    return isinstance(value, (np.ndarray, Tensor))


def is_frame(value: Any) -> bool:
    """Whether a value is a DataFrame of pandas or polars, or an Arrow table."""
    names = (("pandas", "DataFrame"), ("polars", "DataFrame"), ("pyarrow", "Table"))
    return any(_is_a(value, library, name) for library, name in names)


def is_sparse(value: Any) -> bool:
    """Whether a value is a sparse matrix or array of SciPy."""
    return _is_a(value, "scipy", "_spbase")


def is_image(value: Any) -> bool:
    """Whether a value is a Pillow image."""
    return _is_a(value, "PIL", "Image")


def is_labelled(value: Any) -> bool:
    """Whether a value is a pair ``(examples, labels)``: two arrays, or examples and as many single labels."""
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    examples, labels = value
    if not (is_array(examples) or is_sparse(examples)):
        return False
    if is_array(labels):
        return is_array(examples) or labels.ndim == 1
    if _is_series(labels):
        return True
    num = examples.shape[0] if len(examples.shape) else 0
    return isinstance(labels, list) and len(labels) == num > 0 and all(is_number(each) for each in labels)


def texts_of(value: Any) -> list[str] | None:
    """The texts of a list, tuple, array or column of texts; None if it is something else."""
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "UTO":
        value = value.tolist()
    elif _is_series(value):
        value = value.to_list()
    if isinstance(value, list | tuple) and len(value) and all(isinstance(each, str) for each in value):
        return list(value)
    return None


def to_tensor(value: Any, name: str) -> Tensor:
    """An array, tensor, list of numbers or column of a DataFrame as a dense tensor on the CPU.

    Raises:
        ValueError: a masked array with masked values.
        TypeError: not numbers; the message has the remedy.
    """
    if isinstance(value, Tensor):
        dense = value if value.layout == torch.strided else value.to_dense()
        return dense.detach().cpu()
    array = value if isinstance(value, np.ndarray) else np.asarray(value)
    if isinstance(array, np.ma.MaskedArray):
        if np.ma.is_masked(array):
            raise ValueError(
                f"{name}: no value may be masked, got {int(np.ma.count_masked(array))} masked ones; use"
                " array.filled(VALUE), or a DataFrame, whose missing values are left out of the likelihood"
            )
        array = array.data
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{name}: must hold numbers, got {array.dtype}; {_remedy(array)}")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    # a copy: the file or the user's array may be read-only, or change
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=")))


def _remedy(array: np.ndarray[Any, Any]) -> str:
    if array.dtype.names:
        return "give pandas.DataFrame(array), which is read as a table"
    if array.dtype.kind in "USTO" and array.size and isinstance(array.flat[0], str | bytes):
        return "give words as a column of a DataFrame, labels as whole numbers with label_names"
    return "convert it, such as with array.astype('float32')"


def _labelled(examples: Any, labels: Tensor, name: str) -> Source:
    if is_sparse(examples):
        return SparseSource(examples, labels, name=name)
    return _array_source(examples, labels, name)


def _array_source(array: Any, labels: Tensor | None, name: str) -> Source:
    """The rows of an array or tensor; those of a memory map are read on demand."""
    if not isinstance(array, np.memmap):
        return TensorSource(to_tensor(array, name), labels, name=name)
    check_array_shape(array.shape, name)
    as_uint8_or_float32(to_tensor(array[:1], name), name)  # its type
    return MappedSource(array, labels, name=name)


def _refuse(data: Any, name: str) -> None:
    """Raise a TypeError with the remedy for objects that only look like examples."""
    if isinstance(data, DataLoader):
        batch = f"TrainConfig(global_batch_size={data.batch_size})" if data.batch_size else "TrainConfig"
        raise TypeError(
            f"{name}: must be a data set, got a DataLoader, whose order fastvae cannot resume or split over processes;"
            f" give its data set, loader.dataset, and the batch size in {batch}"
        )
    if isinstance(data, IterableDataset):
        raise TypeError(
            f"{name}: examples must be read by index, since their order depends on seed and epoch alone, got the"
            f" IterableDataset {type(data).__name__}; give a data set with len() and an index, list(dataset) if it fits"
            " into memory, or a folder of .npy or tar shards (--data.path)"
        )
    if is_frame(data):
        raise TypeError(f"{name}: a {type(data).__name__} is a table; use fastvae.data.as_data(frame)")
    if _is_a(data, "polars", "LazyFrame"):
        raise TypeError(f"{name}: a LazyFrame holds no rows yet; give frame.collect()")
    if isinstance(data, str | PathLike):
        raise TypeError(
            f"{name}: must be examples, got the path {str(data)!r}; read it with fastvae.build_data("
            "fastvae.DataConfig(name='file', path=...))"
        )
    if _is_series(data):
        raise TypeError(f"{name}: a column alone holds no examples [N, ...]; give column.to_frame()")
    if texts_of(data) is not None:
        raise TypeError(
            f"{name}: must hold numbers, got texts; write sentences to a .txt file, one per line, and train with"
            " fastvae.DataConfig(name='text', path=...); a run on text encodes a list of them"
        )
    is_indexable = isinstance(data, Sequence) or is_array(data) or is_sparse(data) or is_image(data)
    if isinstance(data, Mapping | bytes) or not (is_indexable or _has_items(data)):
        raise TypeError(
            f"{name}: must be an array or tensor [N, ...], a pair (examples, labels) or an indexable data set, "
            f"got {type(data).__name__}"
        )


def _has_items(data: Any) -> bool:
    return any("__getitem__" in vars(each) for each in type(data).__mro__)


def _is_series(value: Any) -> bool:
    return _is_a(value, "pandas", "Series") or _is_a(value, "polars", "Series")


def _is_a(value: Any, library: str, name: str) -> bool:
    """Whether a class of that name of a library, which may not be installed, is among the types of a value."""
    return any(each.__name__ == name and each.__module__.split(".")[0] == library for each in type(value).__mro__)
