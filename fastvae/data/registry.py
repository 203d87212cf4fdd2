"""Data by name, and a user's own data by kind or by what a path holds: a new kind is a file and one line here."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from fastvae.data.audio.recordings import holds_recordings, load_own_recordings, load_spoken_digits, read_recordings
from fastvae.data.condition import conditioned
from fastvae.data.config import OWN, DataConfig
from fastvae.data.dataset import Data, State, as_data, condition_on
from fastvae.data.files.arrays import load_arrays
from fastvae.data.files.folders import visible_files
from fastvae.data.files.foreign import check_not_foreign, what_a_folder_holds
from fastvae.data.files.image_files import image_extensions
from fastvae.data.files.shards import EverySource, NpyShards
from fastvae.data.files.tar import TarShards
from fastvae.data.interactions.files import is_interactions_file, is_sparse_file
from fastvae.data.interactions.users import load_movielens, load_own_interactions, read_own_interactions
from fastvae.data.pixels.digits import load_digits
from fastvae.data.pixels.images import folder_classes, load_folder
from fastvae.data.pixels.mnist import FASHION_MNIST, MNIST, PublishedSet, load_published
from fastvae.data.pixels.small_images import CIFAR10_LABELS, load_cifar10, load_frey_faces
from fastvae.data.preprocess import Preprocess
from fastvae.data.restore import kept_kind, restore
from fastvae.data.source import CHUNK_ROWS, Source
from fastvae.data.stamp import STAMP_FILE, stamp_of, why_unreadable
from fastvae.data.table.file import is_table_file
from fastvae.data.table.tables import load_breast_cancer, load_table, read_rows
from fastvae.data.text.sentences import holds_sentences, load_sentences, load_sst2, read_text
from fastvae.data.views import check_varied, split_every

CLASSES_FILE = "classes.json"
LoadData = Callable[[DataConfig, int, State], Data]  # (config, seed, what a run kept: empty when it begins)
ReadSource = Callable[[Path, DataConfig, State], Source]


@dataclass(frozen=True)
class Recognizer:
    """How one form of own data is told from the others, and read."""

    kind: str
    """What it gives: table, text, interactions, audio; pixels are images and plain numbers."""
    what: str
    """What it reads, in the words of an error message."""
    matches: Callable[[Path], bool]
    """Whether an existing file or folder is of this form; cheap: looks at names, or at a file's first bytes."""
    load: LoadData
    read: ReadSource | None = None
    """All examples of one file in its order, for a finished run to encode or score; None: this form has no such."""
    suits: Callable[[Path], bool] | None = None
    """What replaces ``matches`` where the kind is known: then the reader may say what is wrong with a file."""


def load_own_digits(config: DataConfig, seed: int, state: State) -> Data:
    """scikit-learn's digits; dequantised by default under the name ``digits``."""
    data = _pixels(config, seed, *load_digits(), dequantize=config.name == "digits")
    return replace(data, label_names=tuple("0123456789"))


def load_published_images(published: PublishedSet, config: DataConfig, seed: int, state: State) -> Data:
    """MNIST and its relatives."""
    data = _pixels(config, seed, *load_published(published, config.dir, download=config.download))
    return replace(data, label_names=published.label_names)


def load_photographs(config: DataConfig, seed: int, state: State) -> Data:
    """CIFAR-10, in colour, with its labels where the files have them."""
    data = _pixels(config, seed, *load_cifar10(config.dir, test_every=config.test_every))
    return data if data.train.labels is None else replace(data, label_names=CIFAR10_LABELS)


def load_faces(config: DataConfig, seed: int, state: State) -> Data:
    """Frey faces."""
    faces = load_frey_faces(config.dir, max_bytes=_max_bytes(config), test_every=config.test_every)
    return _pixels(config, seed, *faces)


def load_own_arrays(config: DataConfig, seed: int, state: State) -> Data:
    """An ``.npy`` or ``.npz`` file."""
    assert config.path is not None  # DataConfig saw to it
    train, test = load_arrays(config.path.expanduser(), max_bytes=_max_bytes(config))
    check_varied(train, str(config.path))
    data = _pixels(config, seed, *(split_every(train, config.test_every) if test is None else (train, test)))
    return replace(data, notes=(*train.notes, *data.notes))


def load_own_images(config: DataConfig, seed: int, state: State) -> Data:
    """A folder of images."""
    assert config.path is not None  # DataConfig saw to it
    folder = config.path.expanduser()
    classes = _kept_classes(state) or folder_classes(folder)
    images = load_folder(folder, max_bytes=_max_bytes(config), classes=classes, config=config.images)
    check_varied(images, str(config.path))
    data = _pixels(config, seed, *split_every(images, config.test_every))
    data = replace(data, notes=(*images.notes, *data.notes))
    if classes is None:
        return data
    return replace(data, label_names=classes, state={CLASSES_FILE: json.dumps(classes).encode()})


def load_own_shards(read: ReadSource, config: DataConfig, seed: int, state: State) -> Data:
    """A folder of shards, which stay where they are: every ``test_every``-th example is a test example."""
    assert config.path is not None  # DataConfig saw to it
    source = read(config.path.expanduser(), config, state)
    train, test = (EverySource(source, config.test_every, others=others) for others in (True, False))
    return _pixels(config, seed, train, test)


def read_npy_shards(path: Path, config: DataConfig, state: State) -> Source:
    """A folder of ``.npy`` files."""
    return NpyShards(path)


def read_tar_shards(path: Path, config: DataConfig, state: State) -> Source:
    """A folder of ``.tar`` files."""
    return TarShards(path, max_bytes=_max_bytes(config))


def read_arrays(path: Path, config: DataConfig, state: State) -> Source:
    """The examples of an ``.npy`` or ``.npz`` file; the test examples of one that holds them apart."""
    examples, test = load_arrays(path, max_bytes=_max_bytes(config))
    return examples if test is None else test


def read_images(path: Path, config: DataConfig, state: State) -> Source:
    """A folder of images, whose sub-folders are classes that the run knows."""
    return load_folder(path, max_bytes=_max_bytes(config), classes=_kept_classes(state), config=config.images)


def _kept_classes(state: State) -> tuple[str, ...] | None:
    """The names of a run's sub-folders of images; None where it has none."""
    return tuple(json.loads(state[CLASSES_FILE])) if CLASSES_FILE in state else None


def is_array_file(path: Path) -> bool:
    """Whether a file is ``.npy`` or ``.npz`` by name, and no sparse matrix."""
    return path.suffix.lower() in (".npy", ".npz") and not is_sparse_file(path)


def holds_shards(suffix: str, path: Path) -> bool:
    """Whether a folder itself holds files that end so."""
    return path.is_dir() and any(file.suffix == suffix and file.name[0] != "." for file in path.iterdir())


def holds_images(path: Path) -> bool:
    """Whether a folder holds an image, in sub-folders too."""
    return path.is_dir() and any(file.suffix.lower() in image_extensions() for file in visible_files(path))


DATASETS: dict[str, LoadData] = {
    "digits": load_own_digits,
    "digits-raw": load_own_digits,
    "mnist": partial(load_published_images, MNIST),
    "fashion-mnist": partial(load_published_images, FASHION_MNIST),
    "cifar10": load_photographs,
    "frey-faces": load_faces,
    "movielens-100k": load_movielens,
    "sst2": load_sst2,
    "breast-cancer": load_breast_cancer,
    "spoken-digits": load_spoken_digits,
}
RECOGNIZERS: tuple[Recognizer, ...] = (  # the first that matches reads
    Recognizer("pixels", "an .npy or .npz file", is_array_file, load_own_arrays, read_arrays),
    Recognizer(
        "pixels",
        "a folder of .npy shards",
        partial(holds_shards, ".npy"),
        partial(load_own_shards, read_npy_shards),
        read_npy_shards,
    ),
    Recognizer(
        "pixels",
        "a folder of .tar shards",
        partial(holds_shards, ".tar"),
        partial(load_own_shards, read_tar_shards),
        read_tar_shards,
    ),
    Recognizer("pixels", "a folder of images", holds_images, load_own_images, read_images),
    Recognizer(
        "interactions",
        "a CSV, TSV or .inter file of users and items (or .npz of a sparse matrix)",
        is_interactions_file,
        load_own_interactions,
        read_own_interactions,
        suits=Path.is_file,
    ),
    Recognizer(
        "text",
        "a .txt file or a .tsv with a column named sentence",
        holds_sentences,
        load_sentences,
        read_text,
        suits=lambda path: path.is_file() and path.suffix in (".txt", ".tsv"),
    ),
    Recognizer(
        "table",
        "a CSV, TSV, Parquet, Arrow, Excel or npz file of numbers",
        is_table_file,
        load_table,
        read_rows,
        suits=Path.is_file,
    ),
    Recognizer("audio", "a folder of recordings", holds_recordings, load_own_recordings, read_recordings),
)


def build_data(config: DataConfig, seed: int = 0, state: State | None = None) -> Data:
    """The data that a configuration names.

    Args:
        config: which data, where, what is done to them.
        seed: the run's seed; static binarisation depends on it.
        state: what a finished run kept of its data, so that the same tokens, scales or items are used again. Where
            its own file is gone or another by now, the data have no examples, and whoever asks for one is told why.

    Raises:
        ValueError: missing, damaged, empty or unsuitable data; the message names the file and the remedy.
    """
    if config.path is not None:
        return _build_own(config, config.path.expanduser(), seed, state or {})
    load = DATASETS.get(config.name)
    if load is None:
        raise ValueError(f"data.name: must be one of {', '.join([*DATASETS, *OWN])}, got {config.name!r}")
    return condition_on(load(config, seed, state or {}), config.condition)


def read_source(path: Path, data: Data, config: DataConfig) -> Source:
    """All examples of a file or folder in its order, for a model that was trained on ``data`` and reads their kind.

    Raises:
        ValueError: the file is unsuitable, or its examples are not like the run's.
    """
    path = path.expanduser()
    recognizer = _recognize(path, "pixels" if data.kind in ("image", "vector") else data.kind)
    if recognizer.read is None:
        raise ValueError(f"{path}: {recognizer.what} cannot be read apart from a run; name a file of examples")
    source = recognizer.read(path, config, data.state)
    if source.event_shape != data.event_shape or source.dtype != data.train.dtype:
        raise ValueError(
            f"{path}: examples must be like the run's, {list(data.event_shape)} of {data.train.dtype}, "
            f"got {list(source.event_shape)} of {source.dtype}"
        )
    _check_levels(path, source, data.train.levels)
    for note in source.notes:
        print(note, file=sys.stderr, flush=True)
    return source if data.conditions is None else conditioned(source, data.conditions)


def _check_levels(path: Path, source: Source, levels: int | None) -> None:
    """ValueError where pixels are not on the training's scale, which a model would read as noise or as black."""
    if levels is None or source.levels is None:
        return
    rows = torch.arange(len(source))
    highest = max(int(source[some].max()) for some in rows.split(CHUNK_ROWS))
    if highest >= levels:
        raise ValueError(f"{path}: pixels must be in 0 .. {levels - 1} as in training, got {highest}")
    if levels == 256 and highest <= 1:
        raise ValueError(f"{path}: pixels are 0 and 1 only, in training they went to 255; multiply them by 255")


def _build_own(config: DataConfig, path: Path, seed: int, state: State) -> Data:
    """A user's own data: of the kind that a run kept, else that the name says, else that is recognised."""
    reason = why_unreadable(path, state)
    if reason is not None:
        restored = restore(state, reason)
        if restored is None:
            raise ValueError(reason)
        return restored
    kind = kept_kind(state) or (None if config.name == "file" else config.name)
    data = _recognize(path, kind).load(config, seed, state)
    if not state:
        data = replace(data, state={**data.state, STAMP_FILE: stamp_of(path, len(data.train) + len(data.test))})
    return condition_on(data, config.condition)


def _recognize(path: Path, kind: str | None) -> Recognizer:
    """How a path is read: by its kind, or by what it holds for None."""
    candidates = [recognizer for recognizer in RECOGNIZERS if kind in (None, recognizer.kind)]
    known = ", ".join(recognizer.what for recognizer in candidates)
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder; it can be {known}")
    check_not_foreign(path)
    for recognizer in candidates:
        matches = recognizer.matches if kind is None or recognizer.suits is None else recognizer.suits
        if matches(path):
            return recognizer
    raise ValueError(
        f"{path}: must be {known}"
        + ("" if kind is None else f", which data of kind {kind} are read from")
        + what_a_folder_holds(path)
    )


def _pixels(config: DataConfig, seed: int, train: Source, test: Source, *, dequantize: bool = False) -> Data:
    if config.dequantize is not None:
        dequantize = config.dequantize
    elif config.binarize != "none":
        dequantize = False
    data = as_data(train, test, binarize=config.binarize, dequantize=dequantize, seed=seed, name=_name(config))
    if config.path is None or not isinstance(data.preprocess, Preprocess):
        return data
    options = f"--data.binarize {config.binarize}, --data.dequantize {dequantize}"
    return replace(data, notes=(f"{data.name}: values are {data.preprocess.describe} ({options})",))


def _name(config: DataConfig) -> str:
    return config.name if config.path is None else config.path.stem


def _max_bytes(config: DataConfig) -> int:
    return int(config.max_gib * 2**30)
