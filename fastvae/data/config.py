"""Which data a run trains on and how they are read, as a configuration. Nothing here imports PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from fastvae.data.images_config import ImagesConfig
from fastvae.data.table_config import TableConfig
from fastvae.settings import Settings, setting

OWN = ("file", "table", "text", "interactions", "audio")  # names for a path: recognised, or read as that kind
_KINDS = {"breast-cancer": "table", "sst2": "text", "movielens-100k": "interactions", "spoken-digits": "audio"}


Binarize = Literal["none", "static", "dynamic"]
TokenizerKind = Literal["words", "bpe"]
Silence = Literal["auto", "keep", "skip"]


@dataclass(frozen=True, kw_only=True)
class SpectrogramConfig(Settings):
    """How sound becomes numbers; the defaults are those of spoken digits, 32 frames of 32 mels."""

    sample_rate: int = 8000
    """Samples per second; other recordings are resampled to it."""
    num_samples: int = 8192
    """Samples of a clip: longer ones are cut, shorter ones end in silence. A multiple of hop."""
    window: int = 512
    """Samples of a frame's (periodic) Hann window."""
    hop: int = 256
    """Samples from one frame to the next."""
    num_mels: int = 32
    """Mel bands from 0 Hz to half the sample rate."""
    floor: float = 1e-6
    """What is added to a band's power before its logarithm."""

    def __post_init__(self) -> None:
        if min(self.sample_rate, self.num_samples, self.hop, self.num_mels) < 1 or self.floor <= 0:
            raise ValueError("SpectrogramConfig: every number must be positive")
        if self.window % 2 or self.hop > self.window or self.num_samples % self.hop:
            raise ValueError(
                "SpectrogramConfig: window must be even, hop at most window, and num_samples a multiple of hop,"
                f" got {self.window}, {self.hop} and {self.num_samples}"
            )

    @property
    def num_frames(self) -> int:
        """Frames of a clip."""
        return self.num_samples // self.hop


@dataclass(frozen=True, kw_only=True)
class AudioConfig(Settings):
    """How recordings are read, and how training varies them."""

    spectrogram: SpectrogramConfig = field(default_factory=SpectrogramConfig)
    """Rate, length and bands."""
    max_delay: int = 0
    """Training starts each clip late, by up to so many samples drawn anew each time; 0 for never."""
    silence: Silence = "auto"
    """Silence before the sound: keep it, skip it, or (auto) skip it where a clip would hold nothing else."""
    gain_db: float = 0.0
    """Training makes each clip louder or softer, by a normal draw of this deviation in decibels; 0 for never."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_delay < self.spectrogram.num_samples:
            raise ValueError(
                f"AudioConfig: max_delay must be in 0 .. {self.spectrogram.num_samples - 1}, got {self.max_delay}"
            )
        if not (math.isfinite(self.gain_db) and self.gain_db >= 0):
            raise ValueError(f"AudioConfig: gain_db must be a number >= 0, got {self.gain_db}")


@dataclass(frozen=True, kw_only=True)
class RatingColumns:
    """Columns of a file by name; by number, from 1, where its first line is no header; None finds the usual names."""

    user: str | None = None
    """The users."""
    item: str | None = None
    """The items."""
    rating: str | None = None
    """The ratings."""
    time: str | None = None
    """The times."""


@dataclass(frozen=True, kw_only=True)
class InteractionsConfig(Settings):
    """Which interactions count, and which users are held out."""

    min_rating: float | None = None
    """Where the file has ratings: those below count for nothing; None counts every one. All others count once."""
    min_items: int = 5
    """Users with fewer items are left out."""
    test_share: float = 0.2
    """Part of the users that is held out for the test, in (0, 1)."""
    fold: int = 0
    """Which part: 0 .. 1 / test_share - 1; the folds share no user."""
    titles: Path | None = setting(None, changes_result=False)
    """File with the items' titles; None looks beside the interactions for one."""
    user: str | None = None
    """Column of the users: its name, or its number from 1 where the first line is no header; None finds a usual
    name."""
    item: str | None = None
    """Column of the items, likewise."""
    rating: str | None = None
    """Column of the ratings, likewise."""
    time: str | None = None
    """Column of the times, likewise; they are known for what they are, and decide nothing yet."""

    def __post_init__(self) -> None:
        if not 0 < self.test_share <= 0.5:
            raise ValueError(f"InteractionsConfig: test_share must be in (0, 0.5], got {self.test_share}")
        if not 0 <= self.fold < self.num_folds or self.min_items < 1:
            raise ValueError(
                f"InteractionsConfig: fold must be in 0 .. {self.num_folds - 1} and min_items at least 1,"
                f" got {self.fold} and {self.min_items}"
            )

    @property
    def columns(self) -> RatingColumns:
        """The columns of a text file."""
        return RatingColumns(user=self.user, item=self.item, rating=self.rating, time=self.time)

    @property
    def num_folds(self) -> int:
        """How many folds share no user."""
        return int(1 / self.test_share + 1e-9)


@dataclass(frozen=True, kw_only=True)
class TextDataConfig(Settings):
    """How sentences become tokens."""

    tokenizer: TokenizerKind = "words"
    """words: words and punctuation marks, and the letters of scripts without spaces; bpe: pieces of words, which know
    every text."""
    vocab_size: int = 20000
    """The most tokens."""
    min_frequency: int = 2
    """Words (or pairs of pieces) that the training sentences hold less often are left out."""
    lowercase: bool = False
    """Take upper and lower case as one."""
    max_length: int = 60
    """Tokens that a longer sentence is cut to."""
    max_unknown: float = 0.3
    """The largest part of the training sentences' tokens that may be unknown, in [0, 1]; more is refused."""

    def __post_init__(self) -> None:
        if self.max_length < 1:
            raise ValueError(f"TextDataConfig: max_length must be at least 1, got {self.max_length}")
        if not 0 <= self.max_unknown <= 1:
            raise ValueError(f"TextDataConfig: max_unknown must be in [0, 1], got {self.max_unknown}")


@dataclass(frozen=True, kw_only=True)
class DataConfig(Settings):
    """Which data, where they are, and what is done to them."""

    name: str = "digits"
    """A name of `fastvae.data.DATASETS`, such as digits, mnist; with a path file, table, text, interactions, audio."""
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
    max_gib: float = setting(4.0, changes_result=False)
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
        if self.name in OWN and self.path is None:
            raise ValueError(f"DataConfig: name={self.name} needs a path (--data.path), got none")
        if self.path is not None and self.name not in OWN:  # a path is the whole request for one's own data
            object.__setattr__(self, "name", _KINDS.get(self.name, "file"))
        if self.dequantize and self.binarize != "none":
            raise ValueError(f"DataConfig: dequantize and binarize={self.binarize} exclude each other; choose one")
        if self.test_every < 2:
            raise ValueError(f"DataConfig: test_every must be at least 2, got {self.test_every}")
        if not (math.isfinite(self.max_gib) and self.max_gib > 0):
            raise ValueError(f"DataConfig: max_gib must be a positive number, got {self.max_gib}")
