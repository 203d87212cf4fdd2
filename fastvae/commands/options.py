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


def load_run(directory: Path, device: Device, module: str | None = None) -> LoadedRun:
    """A run on a device; ``auto`` is the GPU where PyTorch sees one.

    Args:
        directory: the run directory.
        device: where to compute.
        module: the FILE.py:FUNCTION that builds the model and the data of the run; None for a run of a recipe.

    Raises:
        ValueError: the directory holds no run, or there is no such device.
    """
    from fastvae.distributed.world import choose_device  # here: it imports PyTorch

    chosen = choose_device(device, 0)
    return (
        runs.load(directory, device=chosen) if module is None else runs.load_with_file(directory, module, device=chosen)
    )


def row_numbers(source: Source) -> list[int]:
    """Of each row of a table its number in the file: 1 is the first one below the header."""
    numbers = source.attribute("row")
    return list(range(1, len(source) + 1)) if numbers is None else numbers.tolist()


def conditions(label: str | None, length: str | None, others: Sequence[str]) -> dict[str, str | None]:
    """Values of a run's conditions from ``--label``, ``--length`` and ``--condition NAME=VALUE ...``.

    Raises:
        ValueError: another condition is not of that form, or one is named twice.
    """
    named = (("label", label), ("length", length))
    values: dict[str, str | None] = {name: value for name, value in named if value is not None}
    for word in others:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise ValueError(f"--condition: must be NAME=VALUE, such as speaker=george, got {word!r}")
        if name in values:
            raise ValueError(f"--condition: {name} is named twice, as {values[name]} and {value}; leave one out")
        values[name] = value
    return values


def output_file(out: Path) -> Path:
    """``out`` with its folder made, before the work whose result it takes.

    Raises:
        ValueError: it is a folder.
    """
    if out.is_dir():
        raise ValueError(f"--out: must be a file, {out} is a folder; add a name, such as {out / 'out'}")
    out.parent.mkdir(parents=True, exist_ok=True)
    return out


def output_path(run: LoadedRun, out: Path | None, name: str) -> Path:
    """Where examples are written: a file, a file of that name in a folder, or the run directory for None.

    A kind of data that takes several files (WAVs) is given the folder itself.

    Raises:
        ValueError: the name is that of another kind of file than the data become.
    """
    suffix = figures.find_renderer(run.data).suffix
    if out is None:
        return run.directory / f"{name}{suffix}"
    wanted = _PICTURES if suffix == ".png" else (suffix,)
    if out.suffix in _OTHER_FILES and out.suffix not in wanted and not out.is_dir():
        what = f"a file {suffix}" if suffix else "a folder of WAV files"
        raise ValueError(
            f"--out: examples of {run.data.name} become {what}, got {out.name}; name one, or a folder"
            " (sample and decode also write the numbers to a .npz)"
        )
    if not suffix or (out.suffix and not out.is_dir()):
        out.parent.mkdir(parents=True, exist_ok=True)
        return out
    out.mkdir(parents=True, exist_ok=True)
    return out / f"{name}{suffix}"


def write_examples(run: LoadedRun, out: Path | None, name: str, examples: Tensor, *, title: str) -> Path:
    """Write examples for people to look at or, where ``out`` ends in .npz, their numbers as the array ``examples``.

    Raises:
        ValueError: the name is that of another kind of file than the data become.
    """
    if out is not None and out.suffix == ".npz" and not out.is_dir():
        import numpy as np

        out.parent.mkdir(parents=True, exist_ok=True)
        np.savez(out, examples=examples.cpu().numpy())
        return out
    return run.save(output_path(run, out, name), examples.cpu(), title=title)
