"""Sound: a folder of WAV files and an image of their spectrograms."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastvae.data.audio.config import SpectrogramConfig
from fastvae.data.audio.inversion import waveforms_of
from fastvae.data.audio.preprocess import LogMelPreprocess
from fastvae.data.audio.waveform import write_waveform
from fastvae.data.dataset import Data

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PICTURE = "spectrograms.png"
_OWN_NAME = re.compile(r"\d{3,}(-data|-model)?\.wav|\d{2,}-.*-\d{2,}\.wav")  # of `AudioRenderer`
_COLUMNS = 8
_MAX_ROWS = 12  # of the image; all WAV files are written
_CELL_IN = 1.15  # inches
_RANGE_NATS = 12.0  # below the loudest band: lower values are drawn black


def save_spectrograms(
    path: Path,
    log_mels: Tensor,
    config: SpectrogramConfig,
    *,
    title: str,
    names: Sequence[str] = (),
    columns: int = _COLUMNS,
) -> None:
    """Draw log-mel spectrograms in a grid, low bands at the bottom, all on one scale of brightness.

    Args:
        path: the PNG to write.
        log_mels: [N, mels, frames].
        config: their sizes.
        title: title of the image.
        names: titles of the spectrograms; fewer than N leave the others without a title.
        columns: number of spectrograms per row.
    """
    shown = log_mels[: columns * _MAX_ROWS].float().cpu()
    columns = max(1, min(columns, len(shown)))
    rows = -(-len(shown) // columns)
    from matplotlib.figure import Figure  # imported here: it takes half a second

    figure = Figure(figsize=(columns * _CELL_IN + 0.3, rows * _CELL_IN + 0.9), layout="constrained")
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    brightest = float(shown.max())
    for i, place in enumerate(axes):
        _draw(place, shown[i] if i < len(shown) else None, brightest, names[i] if i < len(names) else "")
    seconds = config.num_samples / config.sample_rate
    figure.supxlabel(f"{seconds:.2g} s each, 0 to {config.sample_rate / 2000:g} kHz on the mel scale", fontsize=7)
    figure.savefig(path, dpi=100)


class AudioRenderer:
    """Recordings: a folder of WAV files with ``spectrograms.png``."""

    suffix = ""

    def write_examples(self, path: Path, examples: Tensor, data: Data, *, title: str) -> None:
        """``001.wav`` and so on."""
        log_mels = _log_mels(examples, data)
        _write_waveforms(path, log_mels, [f"{i:03}" for i in range(1, len(log_mels) + 1)], data)
        save_spectrograms(path / _PICTURE, log_mels, _config(data), title=title)

    def write_pairs(self, path: Path, originals: Tensor, reconstructions: Tensor, data: Data, *, title: str) -> None:
        """``001-data.wav``, ``001-model.wav`` and so on; both by Griffin-Lim, so that they differ by the model only."""
        both = torch.stack((_log_mels(originals, data), _log_mels(reconstructions, data)), dim=1).flatten(0, 1)
        names = [f"{i // 2 + 1:03}-{('data', 'model')[i % 2]}" for i in range(len(both))]
        _write_waveforms(path, both, names, data)
        save_spectrograms(path / _PICTURE, both, _config(data), title=title, names=names)

    def write_rows(self, path: Path, rows: Tensor, names: Sequence[str], data: Data, *, title: str) -> None:
        """``01-NAME-01.wav`` and so on: number and name of the row, and position in it."""
        num_rows, num_steps = rows.shape[:2]
        log_mels = _log_mels(rows.flatten(0, 1), data)
        words = ["".join(c if c.isalnum() else "-" for c in name).strip("-") for name in names]
        files = [f"{r + 1:02}-{words[r]}-{s + 1:02}" for r in range(num_rows) for s in range(num_steps)]
        _write_waveforms(path, log_mels, files, data)
        shown = [names[i // num_steps] if i % num_steps == 0 else "" for i in range(len(log_mels))]
        save_spectrograms(path / _PICTURE, log_mels, _config(data), title=title, names=shown, columns=num_steps)


def _write_waveforms(folder: Path, log_mels: Tensor, names: Sequence[str], data: Data) -> None:
    """Write the WAV files; those of an earlier call, if its image is in the folder, are removed first."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / _PICTURE).exists():
        for path in folder.glob("*.wav"):
            if _OWN_NAME.fullmatch(path.name):
                path.unlink()
    config = _config(data)
    for waveform, name in zip(waveforms_of(log_mels, config), names, strict=True):
        write_waveform(folder / f"{name}.wav", waveform, config.sample_rate)


def _draw(place: Axes, log_mel: Tensor | None, brightest: float, name: str) -> None:
    place.set_axis_off()
    if log_mel is None:
        return
    options: dict[str, Any] = {"vmin": brightest - _RANGE_NATS, "vmax": brightest, "cmap": "magma"}
    place.imshow(log_mel.numpy(), origin="lower", aspect="auto", interpolation="nearest", **options)
    if name:
        place.set_title(name, fontsize=6, pad=2)


def _log_mels(examples: Tensor, data: Data) -> Tensor:
    return _preprocess(data).restore(examples.detach().cpu())


def _config(data: Data) -> SpectrogramConfig:
    return _preprocess(data).audio.spectrogram


def _preprocess(data: Data) -> LogMelPreprocess:
    if not isinstance(data.preprocess, LogMelPreprocess):
        raise TypeError(f"{data.name}: only recordings can be written as sound, got {type(data.preprocess).__name__}")
    return data.preprocess
