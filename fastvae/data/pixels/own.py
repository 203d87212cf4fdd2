"""A user's own images and numbers: arrays, folders of images, folders of shards."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fastvae.data.config import DataConfig
from fastvae.data.dataset import Data, State
from fastvae.data.files.arrays import channels_first, is_sparse_file, load_arrays
from fastvae.data.files.folders import visible_files
from fastvae.data.files.image_files import image_extensions, stack_images
from fastvae.data.files.mapped import MappedSource, map_array
from fastvae.data.files.shards import NpyShards, split_on_demand
from fastvae.data.files.tar import TarShards
from fastvae.data.objects import as_source, is_frame, is_image
from fastvae.data.pixels.arrays import pixel_data, split_rows
from fastvae.data.pixels.augment import Augmentation, resize_of
from fastvae.data.pixels.images import folder_classes, load_folder
from fastvae.data.source import Source, TensorSource
from fastvae.data.views import check_varied, split_every

CLASSES_FILE = "classes.json"


def load_own_arrays(config: DataConfig, seed: int, state: State) -> Data:
    """An ``.npy`` or ``.npz`` file."""
    assert config.path is not None  # checked by build_data
    train, test = _load_arrays(config.path.expanduser(), config)
    check_varied(train, str(config.path))
    data = pixel_data(config, seed, *(split_rows(train, config.test_every) if test is None else (train, test)))
    return replace(data, notes=(*train.notes, *data.notes))


def load_own_images(config: DataConfig, seed: int, state: State) -> Data:
    """A folder of images."""
    assert config.path is not None  # checked by build_data
    folder = config.path.expanduser()
    classes = _kept_classes(state) or folder_classes(folder)
    images = _load_folder(folder, config, classes)
    check_varied(images, str(config.path))
    data = pixel_data(config, seed, *split_every(images, config.test_every))
    data = replace(data, notes=(*images.notes, *data.notes))
    if classes is None:
        return data
    return replace(data, label_names=classes, state={CLASSES_FILE: json.dumps(classes).encode()})


def load_npy_shards(config: DataConfig, seed: int, state: State) -> Data:
    """A folder of ``.npy`` shards, which are read on demand."""
    assert config.path is not None  # checked by build_data
    return _shard_data(read_npy_shards(config.path.expanduser(), config, state), config, seed)


def load_tar_shards(config: DataConfig, seed: int, state: State) -> Data:
    """A folder of ``.tar`` shards, which are read on demand."""
    assert config.path is not None  # checked by build_data
    return _shard_data(read_tar_shards(config.path.expanduser(), config, state), config, seed)


def read_npy_shards(path: Path, config: DataConfig, state: State) -> Source:
    """A folder of ``.npy`` files."""
    return NpyShards(path)


def read_tar_shards(path: Path, config: DataConfig, state: State) -> Source:
    """A folder of ``.tar`` files."""
    transforms = Augmentation(config.images) if config.images.size or config.images.augment else None
    return TarShards(path, max_bytes=config.max_bytes, transforms=transforms)


def read_arrays(path: Path, config: DataConfig, state: State) -> Source:
    """The examples of an ``.npy`` or ``.npz`` file; the test examples if it has separate ones."""
    examples, test = _load_arrays(path, config)
    return examples if test is None else test


def _load_arrays(path: Path, config: DataConfig) -> tuple[Source, Source | None]:
    """The examples and the test examples, if separate; a ``.npy`` file above ``max_gib`` is read on demand."""
    if path.suffix.lower() == ".npy" and path.stat().st_size > config.max_bytes:
        return map_array(path), None
    return load_arrays(path, max_bytes=config.max_bytes)


def read_images(path: Path, config: DataConfig, state: State) -> Source:
    """A folder of images, whose sub-folders are classes of the run."""
    return _load_folder(path, config, _kept_classes(state))


def _load_folder(path: Path, config: DataConfig, classes: tuple[str, ...] | None) -> Source:
    return load_folder(
        path,
        max_bytes=config.max_bytes,
        classes=classes,
        config=config.images,
        leave_out_broken=config.on_bad_example == "replace",
    )


def read_objects(examples: Any, name: str, config: DataConfig, data: Data) -> Source:
    """Arrays, tensors, sparse matrices, lists and Pillow images, in the form of a run's examples.

    Images of any size become squares where the run's images did; axes of channels are placed as those of files are.

    Raises:
        ValueError, TypeError: as `as_source`.
    """
    if is_frame(examples):
        raise TypeError(
            f"{name}: the run was trained on arrays, which have no columns by name, got {type(examples).__name__}; give"
            " frame.to_numpy(), its columns in the order of training"
        )
    images = [examples] if is_image(examples) else examples
    if isinstance(images, list | tuple) and len(images) and is_image(images[0]):
        is_grey = len(data.event_shape) == 3 and data.event_shape[0] == 1
        pixels = stack_images(
            images, name, is_grey=is_grey, background=config.images.background, resize=resize_of(config.images)
        )
        return TensorSource(pixels, name=name)
    source = as_source(examples, name=name)
    if isinstance(source, MappedSource):
        return source if source.event_shape == data.event_shape else source.channels_first()
    if source.event_shape == data.event_shape or not isinstance(source, TensorSource):
        return source
    moved = channels_first(source[torch.arange(len(source))])
    return TensorSource(moved, source.labels, levels=source.levels, name=name)


def _kept_classes(state: State) -> tuple[str, ...] | None:
    """Return the names of a run's sub-folders of images, or None."""
    return tuple(json.loads(state[CLASSES_FILE])) if CLASSES_FILE in state else None


def is_array_file(path: Path) -> bool:
    """Whether a file is ``.npy`` or ``.npz`` by name, and not a sparse matrix."""
    return path.suffix.lower() in (".npy", ".npz") and not is_sparse_file(path)


def holds_npy_shards(path: Path) -> bool:
    """Whether a folder itself contains ``.npy`` files."""
    return _holds_shards(path, ".npy")


def holds_tar_shards(path: Path) -> bool:
    """Whether a folder itself contains ``.tar`` files."""
    return _holds_shards(path, ".tar")


def holds_images(path: Path) -> bool:
    """Whether a folder or a sub-folder contains an image."""
    return path.is_dir() and any(file.suffix.lower() in image_extensions() for file in visible_files(path))


def _holds_shards(path: Path, suffix: str) -> bool:
    return path.is_dir() and any(file.suffix == suffix and file.name[0] != "." for file in path.iterdir())


def _shard_data(source: Source, config: DataConfig, seed: int) -> Data:
    """Every ``test_every``-th example is a test example."""
    return pixel_data(config, seed, *split_on_demand(source, config.test_every))
