"""A user's own images and numbers: arrays, folders of images, folders of shards."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from fastvae.data.config import DataConfig
from fastvae.data.dataset import Data, State
from fastvae.data.files.arrays import is_sparse_file, load_arrays
from fastvae.data.files.folders import visible_files
from fastvae.data.files.image_files import image_extensions
from fastvae.data.files.shards import EverySource, NpyShards
from fastvae.data.files.tar import TarShards
from fastvae.data.pixels.arrays import pixel_data
from fastvae.data.pixels.images import folder_classes, load_folder
from fastvae.data.source import Source
from fastvae.data.views import check_varied, split_every

CLASSES_FILE = "classes.json"


def load_own_arrays(config: DataConfig, seed: int, state: State) -> Data:
    """An ``.npy`` or ``.npz`` file."""
    assert config.path is not None  # checked by build_data
    train, test = load_arrays(config.path.expanduser(), max_bytes=config.max_bytes)
    check_varied(train, str(config.path))
    data = pixel_data(config, seed, *(split_every(train, config.test_every) if test is None else (train, test)))
    return replace(data, notes=(*train.notes, *data.notes))


def load_own_images(config: DataConfig, seed: int, state: State) -> Data:
    """A folder of images."""
    assert config.path is not None  # checked by build_data
    folder = config.path.expanduser()
    classes = _kept_classes(state) or folder_classes(folder)
    images = load_folder(folder, max_bytes=config.max_bytes, classes=classes, config=config.images)
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
    return TarShards(path, max_bytes=config.max_bytes)


def read_arrays(path: Path, config: DataConfig, state: State) -> Source:
    """The examples of an ``.npy`` or ``.npz`` file; the test examples if it has separate ones."""
    examples, test = load_arrays(path, max_bytes=config.max_bytes)
    return examples if test is None else test


def read_images(path: Path, config: DataConfig, state: State) -> Source:
    """A folder of images, whose sub-folders are classes of the run."""
    return load_folder(path, max_bytes=config.max_bytes, classes=_kept_classes(state), config=config.images)


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
    train, test = (EverySource(source, config.test_every, others=others) for others in (True, False))
    return pixel_data(config, seed, train, test)
