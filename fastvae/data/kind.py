"""The record of a kind of data; the folder of each kind defines one. This module does not import PyTorch."""

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

    LoadData = Callable[[DataConfig, int, State], Data]  # (config, seed, state of the run: empty for a new one)
    ReadSource = Callable[[Path, DataConfig, State], Source]
    ReadObject = Callable[[Any, str, DataConfig, Data], Source]  # (object, its name, the run's configuration and data)


class Renderer(Protocol):
    """Writes examples as files for viewing."""

    suffix: str
    """Suffix of the file; empty if several files are written to the folder ``path``."""

    def write_examples(self, path: Path, examples: Tensor, data: Data, *, title: str) -> None:
        """Write examples [N, ...] of `VAE.generate`."""
        ...

    def write_pairs(self, path: Path, originals: Tensor, reconstructions: Tensor, data: Data, *, title: str) -> None:
        """Write examples [N, ...] (targets of a batch) and their reconstructions."""
        ...

    def write_rows(self, path: Path, rows: Tensor, names: Sequence[str], data: Data, *, title: str) -> None:
        """Write R named rows of S examples each, [R, S, ...]: traversals, interpolations."""
        ...


@dataclass(frozen=True)
class Form:
    """One form of a user's own data, such as a folder of images: how it is detected and read."""

    description: str
    """Description of the form in error messages."""
    matches: Callable[[Path], bool]
    """Whether an existing file or folder has this form; fast: checks names, or the first bytes of a file."""
    load: LoadData
    """Training and test examples; the path is ``config.path``."""
    read: ReadSource | None = None
    """All examples of one file in its order, for a finished run to encode or score; None if not supported."""
    suits: Callable[[Path], bool] | None = None
    """Replaces ``matches`` if the kind is given, so that the reader can report what is wrong with a file."""


@dataclass(frozen=True, kw_only=True)
class Handlers:
    """The functions of a kind, which import PyTorch."""

    datasets: Mapping[str, LoadData]
    """Loaders of data sets by name, as in ``--data.name``."""
    forms: tuple[Form, ...]
    """Forms of user data; the first that matches is used."""
    preprocess: type[Preprocessor]
    """Class of the preprocessing that ``restore`` returns. A run with another one requires its files."""
    restore: Callable[[State, Mapping[str, Any]], Preprocessor]
    """Restores the preprocessing from the files of a run and the result of ``describe``."""
    renderer: Callable[[Data], Renderer]
    """Returns the renderer of examples of this kind."""
    read_object: ReadObject | None = None
    """Reads all examples of an object in memory, such as a DataFrame, for a finished run; None: only files are read."""
    describe: Callable[[Any], dict[str, Any]] = lambda preprocess: {}
    """Returns what ``restore`` needs of a preprocessing in addition to the files of the data, as JSON values."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of data: its names, its options, and the functions that read, restore and render its examples."""

    name: str
    """The value of `Data.kind`; with a path, ``--data.name NAME`` reads the path as this kind."""
    datasets: tuple[str, ...] = ()
    """The names of the data sets in ``handlers.datasets``."""
    options: tuple[str, ...] = ()
    """The fields of `DataConfig` that only this kind reads."""
    needs_no_examples: str = ""
    """What works without the run's examples, for the error that they cannot be read."""
    takes_test_path: bool = True
    """Whether test examples can be a file of their own; False if they are chosen by a rule of the kind."""
    takes_any_path: bool = False
    """Whether a recipe of this kind accepts user data of every kind, as ``fastvae train digits --data.path FILE``."""
    load_handlers: Callable[[], Handlers]
    """Imports and returns the functions (and PyTorch); called once, at the first use."""

    @cached_property
    def handlers(self) -> Handlers:
        """The functions.

        Raises:
            ValueError: their data sets differ from those of the kind.
        """
        handlers = self.load_handlers()
        if set(handlers.datasets) != set(self.datasets):
            raise ValueError(
                f"Kind {self.name}: datasets must name those of its handlers, {sorted(handlers.datasets)}, got"
                f" {sorted(self.datasets)}"
            )
        return handlers
