"""Which data a run trains on and how they are read, as a configuration. Nothing here imports PyTorch."""

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


@dataclass(frozen=True, kw_only=True)
class DataConfig(Settings):
    """Which data, where they are, and what is done to them."""

    name: str = "digits"
    """A data set, such as digits or mnist; with a path: file (its kind is recognised), or the name of a kind, such as
    table."""
    dir: Path | None = setting(None, changes_result=False)
    """Folder that holds mnist/ and the like; by default $FASTVAE_DATA, then the cache, then a download."""
    path: Path | None = setting(None, changes_result=False)  # what the path holds is compared, wherever it lies
    """Your own file or folder, in place of the data by name: read as data of their kind; images, numbers and the name
    file are recognised by what it holds."""
    condition: tuple[str, ...] = ()
    """What encoder and decoder are told of each example, such as label; () for nothing."""
    download: bool = setting(True, changes_result=False)
    """Fetch published files that are missing."""
    binarize: Binarize = "none"
    """Draw pixels from their grey values: once (static) or anew in each step (dynamic)."""
    dequantize: bool | None = None
    """Spread each pixel over its cell, so that densities have bits per dimension; by default for digits only."""
    test_every: int = 10
    """For file, where it holds no test set: every so many-th example, counted from 0, is a test example."""
    max_gib: float = setting(4.0, changes_result=False, advanced=True)
    """The most memory that your own data may take, in GiB."""
    images: ImagesConfig = field(default_factory=ImagesConfig)
    """For folders of images: how they are read."""
    interactions: InteractionsConfig = field(default_factory=InteractionsConfig)
    """For interactions of users with items: which count, and who is held out."""
    text: TextDataConfig = field(default_factory=TextDataConfig)
    """For sentences: their tokens."""
    table: TableConfig = field(default_factory=TableConfig)
    """For tables of numbers and categories: how they are read."""
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
        if not (math.isfinite(self.max_gib) and self.max_gib > 0):
            raise ValueError(f"DataConfig: max_gib must be a positive number, got {self.max_gib}")

    @property
    def max_bytes(self) -> int:
        """``max_gib`` in bytes."""
        return int(self.max_gib * 2**30)
