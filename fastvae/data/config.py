"""Which data a run trains on, as a configuration."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from fastvae.data.arrays import load_arrays
from fastvae.data.dataset import Data, as_data
from fastvae.data.digits import load_digits
from fastvae.data.images import load_folder
from fastvae.data.mnist import FASHION_MNIST, MNIST, load_published
from fastvae.data.preprocess import Binarize
from fastvae.data.source import Source, split_every

DataName = Literal["digits", "digits-raw", "mnist", "fashion-mnist", "file"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which data, where they are, and what is done to their pixels."""

    name: DataName = "digits"
    """digits (8 x 8, dequantised), digits-raw (8 x 8, scaled), mnist, fashion-mnist, or file: your own."""
    dir: Path | None = None
    """Folder that holds mnist/ or fashion-mnist/; by default $FASTVAE_DATA, then the cache, then a download."""
    path: Path | None = None
    """For file: an .npy or .npz file, or a folder of images of one size."""
    download: bool = True
    """Fetch published files that are missing."""
    binarize: Binarize = "none"
    """Draw pixels from their grey values: once (static) or anew in each step (dynamic)."""
    dequantize: bool | None = None
    """Spread each pixel over its cell, so that densities have bits per dimension; by default for digits only."""
    test_every: int = 10
    """For file, where it holds no test set: every so many-th example, counted from 0, is a test example."""
    max_gib: float = 4.0
    """The most memory that your own data may take, in GiB."""

    def __post_init__(self) -> None:
        for field, value, choices in (
            ("name", self.name, get_args(DataName)),
            ("binarize", self.binarize, get_args(Binarize)),
        ):
            if value not in choices:
                raise ValueError(f"DataConfig: {field} must be one of {', '.join(choices)}, got {value!r}")
        if self.name == "file" and self.path is None:
            raise ValueError("DataConfig: name=file needs a path (--data.path), got none")
        if self.name != "file" and self.path is not None:
            raise ValueError(f"DataConfig: path is for name=file only, got path={self.path} with name={self.name}")
        if self.dequantize and self.binarize != "none":
            raise ValueError(f"DataConfig: dequantize and binarize={self.binarize} exclude each other; choose one")
        if self.test_every < 2:
            raise ValueError(f"DataConfig: test_every must be at least 2, got {self.test_every}")
        if not (math.isfinite(self.max_gib) and self.max_gib > 0):
            raise ValueError(f"DataConfig: max_gib must be a positive number, got {self.max_gib}")


def build_data(config: DataConfig, seed: int = 0) -> Data:
    """The data that a configuration names.

    Args:
        config: which data, where, what is done to the pixels.
        seed: the run's seed; static binarisation depends on it.

    Raises:
        ValueError: missing, damaged, empty or unsuitable data; the message names the file and the remedy.
    """
    train, test, label_names = _load(config)
    dequantize = config.dequantize
    if dequantize is None:
        dequantize = config.name == "digits" and config.binarize == "none"
    return as_data(
        train,
        test,
        binarize=config.binarize,
        dequantize=dequantize,
        label_names=label_names,
        seed=seed,
        name=config.name,
    )


def _load(config: DataConfig) -> tuple[Source, Source, tuple[str, ...] | None]:
    if config.name in ("digits", "digits-raw"):
        return *load_digits(), tuple("0123456789")
    if config.name in ("mnist", "fashion-mnist"):
        published = MNIST if config.name == "mnist" else FASHION_MNIST
        return *load_published(published, config.dir, download=config.download), published.label_names
    return *_load_own(config), None


def _load_own(config: DataConfig) -> tuple[Source, Source]:
    assert config.path is not None  # __post_init__ saw to it
    path, max_bytes = config.path.expanduser(), int(config.max_gib * 2**30)
    if path.is_dir():
        return split_every(load_folder(path, max_bytes=max_bytes), config.test_every)
    if path.suffix not in (".npy", ".npz"):
        raise ValueError(f"{path}: must be an .npy or .npz file or a folder of images")
    if not path.is_file():
        raise ValueError(f"{path}: no such file; --data.path names an .npy or .npz file or a folder of images")
    train, test = load_arrays(path, max_bytes=max_bytes)
    return split_every(train, config.test_every) if test is None else (train, test)
