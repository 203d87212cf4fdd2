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

_PICTURES = (".png", ".jpg", ".jpeg", ".pdf", ".svg", ".tif", ".tiff", ".webp")
_OTHER_FILES = (*_PICTURES, ".txt", ".csv", ".wav", ".npz", ".npy", ".pt", ".json", ".safetensors")
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


def output_file(out: Path) -> Path:
    """Create the folder of ``out`` before the work whose result is written to it.

    Raises:
        ValueError: it is a folder.
    """
    if out.is_dir():
        raise ValueError(f"--out: must be a file, {out} is a folder; add a name, such as {out / 'out'}")
    out.parent.mkdir(parents=True, exist_ok=True)
    return out


def output_path(run: LoadedRun, out: Path | None, name: str) -> Path:
    """Return the path to write examples to: a file, or file ``name`` in a folder (None: the run directory).

    For a kind of data with several files (WAV files), it is a folder.

    Raises:
        ValueError: the suffix of the file does not fit the data.
    """
    suffix = figures.find_renderer(run.data).suffix
    if out is None:
        return run.directory / f"{name}{suffix}"
    wanted = _PICTURES if suffix == ".png" else (suffix,)
    if out.suffix in _OTHER_FILES and out.suffix not in wanted and not out.is_dir():
        what = f"a file {suffix}" if suffix else "a folder of WAV files"
        raise ValueError(
            f"--out: examples of {run.data.name} are written to {what}, got {out.name}; name one, or a folder"
            " (sample and decode also write the numbers to a .npz)"
        )
    if not suffix or (out.suffix and not out.is_dir()):
        out.parent.mkdir(parents=True, exist_ok=True)
        return out
    out.mkdir(parents=True, exist_ok=True)
    return out / f"{name}{suffix}"


def write_examples(run: LoadedRun, out: Path | None, name: str, examples: Tensor, *, title: str) -> Path:
    """Write examples as images, text, WAV files or a table or, if ``out`` ends in .npz, as the array ``examples``.

    Raises:
        ValueError: the suffix of the file does not fit the data.
    """
    if out is not None and out.suffix == ".npz" and not out.is_dir():
        import numpy as np

        out.parent.mkdir(parents=True, exist_ok=True)
        np.savez(out, examples=examples.cpu().numpy())
        return out
    return run.save(output_path(run, out, name), examples.cpu(), title=title)
