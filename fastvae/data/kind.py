"""A kind of data as one record, in which the folder of each kind ends. Nothing here imports PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from fastvae.data.config import DataConfig
    from fastvae.data.dataset import Data, State
    from fastvae.data.preprocess import Preprocessor
    from fastvae.data.source import Source

    LoadData = Callable[[DataConfig, int, State], Data]  # (config, seed, what a run kept: empty when it begins)
    ReadSource = Callable[[Path, DataConfig, State], Source]
    ReadObject = Callable[[Any, str, DataConfig, Data], Source]  # (object, its name, the run's configuration and data)


class Renderer(Protocol):
    """Writes examples for people to look at."""

    suffix: str
    """What a file's name ends with; empty where several files make a folder, which ``path`` then names."""

    def write_examples(self, path: Path, examples: Tensor, data: Data, *, title: str) -> None:
        """Examples [N, ...], as `VAE.generate` gives them."""
        ...

    def write_pairs(self, path: Path, originals: Tensor, reconstructions: Tensor, data: Data, *, title: str) -> None:
        """Examples [N, ...] (a batch's target) and the model's reconstructions of them."""
        ...

    def write_rows(self, path: Path, rows: Tensor, names: Sequence[str], data: Data, *, title: str) -> None:
        """R rows of S examples each, [R, S, ...], and a name for each row: traversals, interpolations."""
        ...


@dataclass(frozen=True)
class Form:
    """One form of a user's own data, such as a folder of images: how it is recognised, and how it is read."""

    what: str
    """The form in the words of an error message."""
    matches: Callable[[Path], bool]
    """Whether an existing file or folder has this form; cheap: looks at names, or at a file's first bytes."""
    load: LoadData
    """Training and test examples; the path is ``config.path``."""
    read: ReadSource | None = None
    """All examples of one file in its order, for a finished run to encode or score; None where that is impossible."""
    suits: Callable[[Path], bool] | None = None
    """Replaces ``matches`` where the kind is given, so that the reader can say what is wrong with a file."""


@dataclass(frozen=True, kw_only=True)
class Handlers:
    """The functions of a kind, which import PyTorch."""

    datasets: Mapping[str, LoadData]
    """The data sets that have a name, as in ``--data.name``."""
    forms: tuple[Form, ...]
    """The forms of own data; the first that matches reads."""
    preprocess: type[Preprocessor]
    """The class of the preprocessing that ``restore`` makes. A run with another one needs its files."""
    restore: Callable[[State, Mapping[str, Any]], Preprocessor]
    """The preprocessing, from the files that a run kept and what ``describe`` gave."""
    renderer: Callable[[Data], Renderer]
    """What shows examples of this kind."""
    read_object: ReadObject | None = None
    """All examples of an object in memory, such as a DataFrame, for a finished run; None if only files are read."""
    describe: Callable[[Any], dict[str, Any]] = lambda preprocess: {}
    """What ``restore`` needs of a preprocessing beyond the files that the data keep, as JSON can hold it."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of data: its names, its options, and the functions that read, restore and show its examples."""

    name: str
    """The value of `Data.kind`; with a path, ``--data.name NAME`` reads the path as this kind."""
    datasets: tuple[str, ...] = ()
    """The names of the data sets in ``handlers.datasets``."""
    options: tuple[str, ...] = ()
    """The fields of `DataConfig` that only this kind reads."""
    needs_no_examples: str = ""
    """What a run can do without its own examples, for the message that they cannot be read."""
    takes_any_path: bool = False
    """Whether a recipe of this kind reads own data of every kind, as ``fastvae train digits --data.path FILE`` does."""
    load_handlers: Callable[[], Handlers]
    """Imports the functions, PyTorch with them, and returns them; called once, at the first use."""

    @cached_property
    def handlers(self) -> Handlers:
        """The functions.

        Raises:
            ValueError: they have other data sets than the kind declares.
        """
        handlers = self.load_handlers()
        if set(handlers.datasets) != set(self.datasets):
            raise ValueError(
                f"Kind {self.name}: datasets must name those of its handlers, {sorted(handlers.datasets)}, got"
                f" {sorted(self.datasets)}"
            )
        return handlers
