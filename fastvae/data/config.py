"""Settings of the data: which data a run trains on and how they are read. This module does not import PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from fastvae.data.audio.config import AudioConfig
from fastvae.data.interactions.config import InteractionsConfig
from fastvae.data.pixels.config import ImagesConfig
from fastvae.data.table.config import TableConfig
from fastvae.data.text.config import TextDataConfig
from fastvae.settings import Settings, setting

Binarize = Literal["none", "static", "dynamic"]
VALIDATION_SHARE = 0.05
"""Share of the training examples that is held out if a run needs a validation set and its data have none."""


@dataclass(frozen=True, kw_only=True)
class DataConfig(Settings):
    """Which data to train on, where they are stored, and how they are preprocessed."""

    name: str = "digits"
    """Name of a data set, such as digits or mnist. With --data.path: file, which detects the kind of data, or the name
    of a kind, such as table."""
    dir: Path | None = setting(None, changes_result=False)
    """Folder that contains mnist/ and so on; by default $FASTVAE_DATA, then the cache, then a download."""
    path: Path | None = setting(None, changes_result=False)  # a resume compares the data, not their path
    """The user's own file or folder, instead of a data set by name. Images, numbers and the name file are detected from
    its contents; the name of a kind reads it as data of that kind."""
    condition: tuple[str, ...] = ()
    """Columns that the encoder and the decoder are conditioned on, such as label; () for none."""
    download: bool = setting(True, changes_result=False, advanced=True)
    """Download the published files that are missing."""
    binarize: Binarize = "none"
    """Binarise pixels by sampling from their grey values: once (static) or in every step (dynamic)."""
    dequantize: bool | None = None
    """Add uniform noise within each pixel's quantisation step, so that densities have units of bits per dimension; by
    default for digits only."""
    test_every: int = 10
    """For a file without a test set: every Nth example, counted from 0, is a test example."""
    test_path: Path | None = setting(None, changes_result=False, advanced=True)
    """A file or folder of test examples, like the one of --data.path, all of whose examples are then for training."""
    validation_path: Path | None = setting(None, changes_result=False, advanced=True)
    """A file or folder of validation examples."""
    validation_share: float | None = None
    """Share of the training examples that is held out as the validation set, in [0, 1); None is 0.05 for a run that
    needs one (keep-best, early stopping, plateau), else 0."""
    max_gib: float = setting(4.0, changes_result=False, advanced=True)
    """Largest amount of memory that the data from --data.path may use, in GiB; a larger .npy file is read on demand."""
    workers: int | Literal["auto"] = setting("auto", changes_result=False, advanced=True)
    """Processes of each rank that read batches ahead of the step; 0 reads in the training process. auto: for examples
    that are decoded one by one, such as images in shards, one fewer than the cores of the rank, at most 8; else 0."""
    prefetch: int = setting(2, changes_result=False, advanced=True)
    """Batches that each worker reads ahead."""
    on_bad_example: Literal["stop", "replace"] = setting("stop", advanced=True)
    """What to do about a training example that cannot be read, such as a damaged image: stop, or replace it by another
    one, which depends on the seed and the example only. Test and validation examples are never replaced. With replace,
    files in a folder that are not images are left out before the split."""
    images: ImagesConfig = field(default_factory=ImagesConfig)
    """Settings of folders of images."""
    interactions: InteractionsConfig = field(default_factory=InteractionsConfig)
    """Settings of interactions of users with items."""
    text: TextDataConfig = field(default_factory=TextDataConfig)
    """Settings of sentences and their tokens."""
    table: TableConfig = field(default_factory=TableConfig)
    """Settings of tables of numbers and categories."""
    audio: AudioConfig = field(default_factory=AudioConfig)
    """Settings of recordings."""

    def __post_init__(self) -> None:
        choices = get_args(Binarize)
        if self.binarize not in choices:
            raise ValueError(f"DataConfig: binarize must be one of {', '.join(choices)}, got {self.binarize!r}")
        if self.dequantize and self.binarize != "none":
            raise ValueError(f"DataConfig: dequantize and binarize={self.binarize} exclude each other; choose one")
        if self.test_every < 2:
            raise ValueError(f"DataConfig: test_every must be at least 2, got {self.test_every}")
        if self.test_path is not None and self.path is None:
            raise ValueError(
                f"DataConfig: test_path={self.test_path} needs a path with the training examples (data.path)"
            )
        if self.validation_path is not None and self.validation_share:
            raise ValueError(
                f"DataConfig: validation_path={self.validation_path} and validation_share={self.validation_share} "
                "exclude each other; choose one"
            )
        if self.validation_share is not None and not 0 <= self.validation_share < 1:
            raise ValueError(f"DataConfig: validation_share must be in [0, 1), or None, got {self.validation_share}")
        if not (math.isfinite(self.max_gib) and self.max_gib > 0):
            raise ValueError(f"DataConfig: max_gib must be a positive number, got {self.max_gib}")

    @property
    def max_bytes(self) -> int:
        """``max_gib`` in bytes."""
        return int(self.max_gib * 2**30)
