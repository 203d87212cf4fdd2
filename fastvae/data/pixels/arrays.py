"""`Data` of arrays, tensors and indexable data sets, and the transformation of their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastvae.data.config import Binarize, DataConfig
from fastvae.data.dataset import Data
from fastvae.data.files.mapped import MappedSource
from fastvae.data.files.shards import split_on_demand
from fastvae.data.objects import as_source, is_array, is_frame, is_labelled
from fastvae.data.pixels.preprocess import Preprocess, binarize_pixels, pixel_noise
from fastvae.data.source import Source, TensorSource
from fastvae.data.table.config import TableConfig
from fastvae.data.table.tables import frame_data
from fastvae.data.views import chunks, looked_at, split_every
from fastvae.model_inputs import ModelInputs
from fastvae.ops import noise_key


def as_data(
    train: Any,
    test: Any = None,
    *,
    binarize: Binarize = "none",
    dequantize: bool = False,
    test_every: int = 10,
    seed: int = 0,
    name: str = "data",
    label_names: tuple[str, ...] | None = None,
    table: TableConfig | None = None,
) -> Data:
    """``Data`` of anything that ``as_source`` takes, or of a DataFrame; a ``Data`` is returned unchanged.

    Args:
        train: the training examples. A DataFrame of pandas or polars, or an Arrow table, is read like a table in a
            file: numbers are scaled, categories become one-hot, missing values are masked. Of arrays, uint8 are pixels
            (binary ones if none is above 1), floats are continuous. A pair ``(train, test)`` of data sets is
            split; so is a pair of arrays if both contain examples of one shape, else it is ``(examples, labels)``.
        test: the test examples; without them every ``test_every``-th example of ``train`` is one.
        binarize, dequantize, seed: preprocessing of the pixels, see ``DataConfig``; the seed of static binarisation.
        test_every: see ``test``.
        name: name of the data in messages.
        label_names: names of the labels 0, 1, ...
        table: for a DataFrame: the roles of its columns.

    Raises:
        ValueError, TypeError: as ``as_source``; binarisation of data outside [0, 1]; or a label without a name.
    """
    if isinstance(train, Data):
        return train
    if test is None and _is_train_and_test(train):
        train, test = train
    if is_frame(train) or is_frame(test):
        if binarize != "none" or dequantize:
            raise ValueError(f"{name}: a table has no pixels to transform; leave out binarize and dequantize")
        return frame_data(train, test, config=table, seed=seed, name=name)
    if table is not None:
        raise ValueError(
            f"{name}: table describes the columns of a DataFrame, got {type(train).__name__}; leave it out"
        )
    source = as_source(train, name=name)
    notes = source.notes if source is not train else ()
    parts = split_rows(source, test_every) if test is None else (source, as_source(test, name=f"{name} (test)"))
    _check_names(label_names, parts, name)
    preprocess = Preprocess(levels=_levels(*parts))
    data = Data(
        name=name,
        train=parts[0],
        test=parts[1],
        preprocess=preprocess,
        kind="pixels",
        label_names=label_names,
        notes=notes,
    )
    return prepare(data, binarize, dequantize, seed)


def split_rows(source: Source, test_every: int) -> tuple[Source, Source]:
    """Train and test part, see `split_every`; for a memory map without a list of its indices."""
    return split_on_demand(source, test_every) if isinstance(source, MappedSource) else split_every(source, test_every)


def _check_names(names: tuple[str, ...] | None, parts: Sequence[Source], name: str) -> None:
    """ValueError unless there is a name for every label of the parts."""
    if names is None:
        return
    labels = [part.labels for part in parts]
    highest = max((int(each.max()) for each in labels if each is not None), default=-1)
    if highest >= len(names):
        raise ValueError(f"{name}: label_names must name every label from 0 to {highest}, got {len(names)}: {names}")


def prepare(data: Data, binarize: Binarize, dequantize: bool, seed: int) -> Data:
    """``data`` with the transformation of its pixels chosen; static binarisation is performed here, once.

    Raises:
        ValueError: the transformation does not suit the data.
    """
    pixels = data.preprocess
    if not isinstance(pixels, Preprocess):
        raise ValueError(f"{data.name}: {data.kind} data have no pixels to transform; use binarize=none")
    if binarize == "none":
        return _with(data, replace(pixels, dequantize=dequantize))
    if dequantize:
        raise ValueError(f"{data.name}: dequantize and binarize={binarize!r} exclude each other; choose one")
    if data.train.levels is None:
        _check_probabilities(data)
    if binarize == "dynamic":
        return _with(data, replace(pixels, binarize=True))
    if not data.train.in_memory:
        raise ValueError(
            f"{data.name}: binarize=static samples every example once and stores it, but these are read on "
            "demand; use binarize=dynamic"
        )
    train, test = (
        _binarize_once(source, seed, pixels.levels, evaluation=source is data.test)
        for source in (data.train, data.test)
    )
    return _with(replace(data, train=train, test=test), Preprocess(levels=2))


def pixel_data(config: DataConfig, seed: int, train: Source, test: Source, *, dequantize: bool = False) -> Data:
    """Data of two sources of pixels or numbers, transformed as a configuration says; ``dequantize`` is the default."""
    if config.dequantize is not None:
        dequantize = config.dequantize
    elif config.binarize != "none":
        dequantize = False
    name = config.name if config.path is None else config.path.stem
    if config.images.augment and not train.is_random:
        raise ValueError(
            f"{name}: --data.images.augment transforms images in folders and in tar shards, and these are arrays; "
            "leave it out, or give the images as files"
        )
    data = as_data(train, test, binarize=config.binarize, dequantize=dequantize, seed=seed, name=name)
    if config.path is None or not isinstance(data.preprocess, Preprocess):
        return data
    options = f"--data.binarize {config.binarize}, --data.dequantize {dequantize}"
    return replace(data, notes=(f"{data.name}: values are {data.preprocess.describe} ({options})",))


def _with(data: Data, pixels: Preprocess) -> Data:
    return replace(
        data, preprocess=pixels, inputs=ModelInputs(event_shape=data.event_shape, num_levels=pixels.exact_levels)
    )


def _is_train_and_test(data: Any) -> bool:
    if not isinstance(data, tuple) or len(data) != 2:
        return False
    if is_labelled(data) and not all(is_array(part) for part in data):
        return False
    first, second = (part.shape if isinstance(part, (np.ndarray, Tensor)) else None for part in data)
    if first is None or second is None:
        return True  # not two arrays: two data sets, or an array and its labels in a list, which as_source rejects
    return len(second) > 1 and first[1:] == second[1:]


def _levels(train: Source, test: Source) -> int | None:
    """Return the number of levels of both parts: a 0/1 test set of grey images is not binary."""
    return None if train.levels is None or test.levels is None else max(train.levels, test.levels)


def _binarize_once(source: Source, seed: int, levels: int | None, *, evaluation: bool) -> Source:
    """Binary examples, uint8 in memory: each sampled by key ``(seed, 0, index)``, independently of the order of
    reading.
    """
    drawn = torch.empty((len(source), *source.event_shape), dtype=torch.uint8)
    for indices in chunks(len(source)):
        raw, first = source[indices], int(indices[0])
        noise = pixel_noise(noise_key(seed, 0, first), raw, indices if evaluation else None)
        drawn[first : first + len(indices)] = binarize_pixels(raw, noise, levels)
    return TensorSource(drawn, source.labels, levels=2)


def _check_probabilities(data: Data) -> None:
    for part, source in (("train", data.train), ("test", data.test)):
        for indices in looked_at(source):
            low, high = source[indices].aminmax()
            if low < 0 or high > 1:
                raise ValueError(
                    f"{data.name}: to binarise, continuous data must be probabilities in [0, 1], "
                    f"got {low.item():g} .. {high.item():g} in the {part} part; scale them, or use binarize=none"
                )
