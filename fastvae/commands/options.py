"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from fastvae import figures
from fastvae import run as runs
from fastvae.settings import Settings

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from fastvae.data import Source
    from fastvae.run import LoadedRun

PICTURES = (".png", ".jpg", ".jpeg", ".pdf", ".svg", ".tif", ".tiff", ".webp")
NUMBERS = ".npz"
RunDirectory = Annotated[Path, tyro.conf.Positional]
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class OnRun(Settings):
    """The option of every command that loads a run."""

    module: str | None = None
    """For a run of `fastvae train FILE.py:FUNCTION` or from Python: FILE.py:FUNCTION that builds its model and data."""


def load_run(directory: Path, device: Device | torch.device, module: str | None = None) -> LoadedRun:
    """Load a run on a device; ``auto`` is a GPU if one is available.

    Args:
        directory: the run directory.
        device: where to compute.
        module: the FILE.py:FUNCTION that builds the model and the data of the run; None for a run of a recipe.

    Raises:
        ValueError: the directory is not a run directory, or the device does not exist.
    """
    from fastvae.distributed.world import choose_device  # imported here: it imports PyTorch

    chosen = choose_device(device, 0) if isinstance(device, str) else device
    return (
        runs.load(directory, device=chosen) if module is None else runs.load_with_file(directory, module, device=chosen)
    )


@dataclass(frozen=True)
class RowNames:
    """How the rows of a table are named in files of results."""

    header: tuple[str, ...]
    """The names of the columns: row and, if the rows have IDs, the column of `TableConfig.id`."""
    rows: tuple[tuple[int | str, ...], ...]
    """For each row its number in the file, where 1 is the first one below the header, and its ID."""


def row_names(loaded: LoadedRun, source: Source) -> RowNames:
    """The numbers and the IDs of a table's rows."""
    known = source.attribute("row")
    numbers = list(range(1, len(source) + 1)) if known is None else known.tolist()
    if source.ids is None:
        return RowNames(("row",), tuple((number,) for number in numbers))
    name = loaded.config.data.table.id or "id"
    return RowNames(("row", name), tuple(zip(numbers, source.ids.tolist(), strict=True)))


def conditions(label: str | None, length: str | None, others: Sequence[str]) -> dict[str, str | None]:
    """Return the values of a run's conditions from ``--label``, ``--length`` and ``--condition NAME=VALUE ...``.

    Raises:
        ValueError: a condition does not have that form, or is given twice.
    """
    named = (("label", label), ("length", length))
    values: dict[str, str | None] = {name: value for name, value in named if value is not None}
    for word in others:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise ValueError(f"--condition: must be NAME=VALUE, such as speaker=george, got {word!r}")
        if name in values:
            raise ValueError(f"--condition: {name} is given twice, as {values[name]} and {value}; remove one")
        values[name] = value
    return values


def output_file(out: Path, endings: Sequence[str], *, option: str = "--out") -> Path:
    """Create the folder of ``out`` before the work whose result is written to it.

    Args:
        out: the file, or a device such as /dev/stdout.
        endings: the endings of the formats that can be written, such as .csv.
        option: name of the option in messages.

    Raises:
        ValueError: it is a folder, or its name has another ending.
    """
    if out.is_dir():
        name = out / f"out{endings[0]}"
        raise ValueError(f"{option}: must be a file, {out} is a folder; add a name, such as {name}")
    if out.suffix.lower() not in endings and not out.is_relative_to("/dev"):
        name = out.with_suffix(endings[0])
        raise ValueError(f"{option}: the file must end in {_either(endings)}, got {out.name}; name it {name.name}")
    out.parent.mkdir(parents=True, exist_ok=True)
    return out


def output_path(run: LoadedRun, out: Path | None, name: str) -> Path:
    """Return the path to write examples to: a file, or file ``name`` in a folder (None: the run directory).

    For a kind of data with several files (WAV files), it is a folder. A .npz file is for the examples as numbers.

    Raises:
        ValueError: the ending of the file does not fit the data.
    """
    suffix = figures.find_renderer(run.data).suffix
    if out is None:
        return run.directory / f"{name}{suffix}"
    is_folder = out.is_dir() or not out.suffix
    if not is_folder and out.suffix.lower() != NUMBERS:
        if not suffix:
            raise ValueError(
                f"--out: examples of {run.data.name} are written to a folder of WAV files, or as numbers to a file that"
                f" ends in {NUMBERS}, got {out.name}; name a folder without an ending, or one that exists"
            )
        return output_file(out, (*(PICTURES if suffix == ".png" else (suffix,)), NUMBERS))
    if is_folder and suffix:
        out.mkdir(parents=True, exist_ok=True)
        return out / f"{name}{suffix}"
    out.parent.mkdir(parents=True, exist_ok=True)
    return out


def is_numbers(path: Path) -> bool:
    """Whether a path of `output_path` is a file of numbers, rather than of pictures, text, sound or a table."""
    return path.suffix.lower() == NUMBERS and not path.is_dir()


def save_numbers(path: Path, **arrays: Tensor) -> None:
    """Write arrays by name as a .npz file."""
    import numpy as np

    with path.open("wb") as file:  # savez would add an ending to a name like X.NPZ
        np.savez(file, **{name: array.cpu().numpy() for name, array in arrays.items()})  # type: ignore[arg-type]


def write_examples(run: LoadedRun, path: Path, examples: Tensor, *, title: str) -> Path:
    """Write examples to a path of `output_path`: as images, text, WAV files, a table, or the array ``examples``."""
    if is_numbers(path):
        save_numbers(path, examples=examples)
        return path
    return run.save(path, examples.cpu(), title=title)


def _either(endings: Sequence[str]) -> str:
    return " or ".join([", ".join(endings[:-1]), endings[-1]] if len(endings) > 1 else endings)
