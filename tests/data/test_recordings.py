"""Folders of recordings: every format of libsndfile, leading silence, and files that are not data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from fastvae.data import AudioConfig, DataConfig, build_data
from fastvae.data.audio.spectrogram import SpectrogramConfig
from fastvae.data.audio.waveform import EXTENSIONS, Silence, read_recording, read_waveform
from fastvae.data.registry import read_source

RATE = 8000
TONE = (0.5 * np.sin(np.arange(2 * RATE) * 0.3)).astype(np.float32)


def write(path: Path, samples: np.ndarray[Any, Any] = TONE, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE, **options)
    return path


def build(folder: Path, **audio: Any) -> Any:
    return build_data(DataConfig(name="audio", path=folder, audio=AudioConfig(**audio)))


FORMATS = {
    ".wav": "WAV", ".WAVE": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".oga": "OGG", ".mp3": "MP3", ".aiff": "AIFF",
    ".AIF": "AIFF", ".aifc": "AIFF", ".au": "AU", ".snd": "AU", ".caf": "CAF", ".w64": "W64", ".rf64": "RF64",
    ".voc": "VOC", ".nist": "NIST", ".sph": "NIST", ".avr": "AVR", ".paf": "PAF", ".sf": "IRCAM", ".opus": "OGG",
}  # fmt: skip


@pytest.mark.parametrize("extension", FORMATS)
def test_every_format_of_libsndfile_is_read(tmp_path: Path, extension: str) -> None:
    form = FORMATS[extension]
    if form not in soundfile.available_formats():
        pytest.skip("this libsndfile was built without it")
    assert extension.lower() in EXTENSIONS
    options = {"subtype": "OPUS"} if extension == ".opus" else {}
    write(tmp_path / f"a{extension}", format=form, **options)
    samples = read_waveform(tmp_path / f"a{extension}", RATE, RATE)
    spectrum = torch.fft.rfft(samples).abs()
    assert int(spectrum.argmax()) == pytest.approx(0.3 / (2 * np.pi) * RATE, abs=2)


def test_read_and_skipped_files_are_counted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(6):
        samples = rng.normal(size=RATE // 4 * (number + 1)) * 0.1
        write(tmp_path / ("yes", "no")[number % 2] / f"{number:02}{('.wav', '.aiff', '.flac')[number % 3]}", samples)
    (tmp_path / "yes" / "._00.wav").write_bytes(b"\0\x05\x16\x07")
    (tmp_path / ".trash").mkdir()
    write(tmp_path / ".trash" / "a.wav")
    (tmp_path / "notes.txt").write_text("no sound")
    data = build(tmp_path)
    assert data.label_names == ("no", "yes")
    (line,) = data.notes
    for words in (
        "6 recordings read (2 .aiff, 2 .wav, 2 .flac)",
        "2 longer than 1.02 s, of which the beginning is read",
        "skipped: 2 hidden, 1 of other kinds (1 .txt)",
    ):
        assert words in line
    assert len(read_source(tmp_path, data, DataConfig(name="audio", path=tmp_path))) == 6


def silent(seconds: float, noise: float = 0.0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(size=int(seconds * RATE)) * noise


@pytest.mark.parametrize("seconds", [1.5, 3.25, 20.0])
@pytest.mark.parametrize("noise", [0.0, 1e-4])
def test_leading_silence_is_skipped_if_the_clip_would_be_silent(tmp_path: Path, seconds: float, noise: float) -> None:
    path = write(tmp_path / "a.wav", np.concatenate([silent(seconds, noise), TONE]), subtype="FLOAT")
    found = read_recording(path, RATE, RATE)
    first = int(np.flatnonzero(np.abs(TONE) > 1e-3)[0])
    assert torch.equal(found.samples, torch.from_numpy(TONE[first : first + RATE]))
    assert found.skipped_s == pytest.approx(seconds + first / RATE)
    assert found.is_cut
    assert float(read_waveform(path, RATE, RATE).abs().max()) <= 1e-3


@pytest.mark.parametrize(("silence", "skipped"), [("auto", 0.0), ("keep", 0.0), ("skip", 0.75)])
def test_leading_silence_is_skipped_on_request(tmp_path: Path, silence: Silence, skipped: float) -> None:
    path = write(tmp_path / "a.wav", np.concatenate([silent(0.75), 0.01 * TONE[: RATE // 2]]), subtype="FLOAT")
    found = read_recording(path, RATE, RATE, silence=silence)
    assert found.skipped_s == pytest.approx(skipped, abs=2 / RATE)
    assert found.samples.shape == (RATE,)
    assert (found.silence > 0.5) == (skipped == 0)


def test_a_recording_without_a_sound_is_silent(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", silent(3.0))
    for silence in ("auto", "keep", "skip"):
        found = read_recording(path, RATE, RATE, silence=silence)
        assert (found.silence, found.skipped_s, found.is_cut) == (1.0, 0.0, True)


def test_silence_is_counted(tmp_path: Path) -> None:
    spectrogram = SpectrogramConfig()
    samples = {
        "late": np.concatenate([silent(0.8), TONE]), "later": np.concatenate([silent(2.0), TONE]), "none": silent(0.5),
        **{f"tone{number}": TONE[: RATE // 2] * (number + 1) / 3 for number in range(3)},
    }  # fmt: skip
    for name, each in samples.items():
        write(tmp_path / f"{name}.wav", each)
    assert spectrogram.sample_rate == RATE
    (line,) = build(tmp_path).notes
    for words in ("1 that begin with silence, which is skipped", "1 silent for more than half", "1 silent"):
        assert words in line
    (line,) = build(tmp_path, silence="skip").notes
    assert "2 that begin with silence" in line
    assert "more than half" not in line


def test_an_invalid_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="AudioConfig: silence must be one of auto, keep, skip, got 'trim'"):
        AudioConfig(silence="trim")  # type: ignore[arg-type]
