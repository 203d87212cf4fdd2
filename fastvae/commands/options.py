"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from fastvae import figures

if TYPE_CHECKING:
    from fastvae.run import LoadedRun

_PICTURES = (".png", ".jpg", ".jpeg", ".pdf", ".svg", ".tif", ".tiff", ".webp")
RunDirectory = Annotated[Path, tyro.conf.Positional]


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
    if out.suffix in (*_PICTURES, ".txt", ".csv", ".wav") and out.suffix not in wanted and not out.is_dir():
        what = f"a file {suffix}" if suffix else "a folder of WAV files"
        raise ValueError(f"--out: examples of {run.data.name} become {what}, got {out.name}; name such, or a folder")
    if not suffix or (out.suffix and not out.is_dir()):
        out.parent.mkdir(parents=True, exist_ok=True)
        return out
    out.mkdir(parents=True, exist_ok=True)
    return out / f"{name}{suffix}"
