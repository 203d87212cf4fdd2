"""Written sound is audible, not silent and not clipped, and has a picture next to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastvae.data import Data, DataConfig, LogMelPreprocess, build_data
from fastvae.data.audio.waveform import write_waveform
from fastvae.figures import find_renderer

soundfile = pytest.importorskip("soundfile")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = tmp_path_factory.mktemp("recordings")
    for take in range(6):
        rising = torch.sin(torch.arange(5000) ** 1.5 * (0.004 + 0.001 * take)) * 0.6
        write_waveform(folder / f"{take % 2}_ann_{take}.wav", rising, 8000)
    return build_data(DataConfig(name="file", path=folder, test_every=3))


def examples(data: Data, num: int) -> torch.Tensor:
    indices = torch.arange(num)
    assert isinstance(data.preprocess, LogMelPreprocess)
    return data.preprocess.standardize(data.preprocess.log_mel(data.train[indices]))


def check(folder: Path, names: list[str]) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted([*(f"{n}.wav" for n in names), "spectrograms.png"])
    for name in names:
        samples, rate = soundfile.read(folder / f"{name}.wav")
        assert (rate, samples.shape) == (8000, (8192,))
        assert 0.05 < np.abs(samples).max() < 0.99
        assert np.sqrt((samples**2).mean()) > 0.01
    with Image.open(folder / "spectrograms.png") as image:
        assert np.asarray(image.convert("L")).std() > 5


def test_examples_are_written_as_sound_and_picture(data: Data, tmp_path: Path) -> None:
    find_renderer(data).write_examples(tmp_path / "samples", examples(data, 3), data, title="samples")
    check(tmp_path / "samples", ["001", "002", "003"])


def test_pairs_are_written_as_sound_and_picture(data: Data, tmp_path: Path) -> None:
    clips = examples(data, 2)
    find_renderer(data).write_pairs(tmp_path / "pairs", clips, clips * 0.9, data, title="pairs")
    check(tmp_path / "pairs", ["001-data", "001-model", "002-data", "002-model"])


def test_rows_are_written_as_sound_and_picture(data: Data, tmp_path: Path) -> None:
    rows = torch.stack([examples(data, 2), examples(data, 2)])
    find_renderer(data).write_rows(tmp_path / "rows", rows, ["digit 1 / a", "2"], data, title="rows")
    check(tmp_path / "rows", ["01-digit-1---a-01", "01-digit-1---a-02", "02-2-01", "02-2-02"])


def test_loud_sound_is_scaled_without_clipping(data: Data, tmp_path: Path) -> None:
    find_renderer(data).write_examples(tmp_path / "loud", torch.full((1, 1, 32, 32), 50.0), data, title="loud")
    samples, _ = soundfile.read(tmp_path / "loud" / "001.wav")
    assert np.abs(samples).max() <= 0.951
