"""Recordings: files, labels and speakers, augmentation in training, and refusals."""

from __future__ import annotations

import io
import json
import math
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from fastvae.data import AudioConfig, DataConfig, Loader, LogMelPreprocess, build_data
from fastvae.data.audio.waveform import read_waveform, resample, write_waveform
from fastvae.ops import noise_key

soundfile = pytest.importorskip("soundfile")
RATE = 8000


def sine(frequency_hz: float, seconds: float = 0.5, rate: int = RATE) -> torch.Tensor:
    return 0.4 * torch.sin(2 * math.pi * frequency_hz * torch.arange(int(seconds * rate)) / rate)


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """Two digits of two speakers, ten recordings each: tones."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for digit in (3, 7):
        for place, speaker in enumerate(("ann", "bob")):
            for take in range(10):
                write_waveform(folder / f"{digit}_{speaker}_{take}.wav", sine(digit * 100 + 900 * place + take), RATE)
    return folder


def own(path: Path, **options: object) -> DataConfig:
    return DataConfig(name="file", path=path, **options)  # type: ignore[arg-type]


def test_file_names_contain_label_and_speaker(digits: Path) -> None:
    data = build_data(own(digits, condition=("label", "speaker")))
    assert (data.kind, data.event_shape, data.label_names) == ("audio", (1, 32, 32), ("3", "7"))
    assert (len(data.train), len(data.test), data.condition_dim) == (36, 4, 4)
    assert data.conditions is not None
    assert data.conditions.vector(label="7", speaker="ann").tolist() == [0, 1, 1, 0]


def test_spectrograms_are_standardised(digits: Path) -> None:
    data = build_data(own(digits))
    x = data.preprocess(data.train[torch.arange(36)], noise_key(0), indices=torch.arange(36), evaluation=True).x
    assert x.shape == (36, 1, 32, 32)
    assert (float(x.mean()), float(x.std())) == pytest.approx((0, 1), abs=1e-3)
    assert torch.allclose(data.train_mean, x.mean(0), atol=1e-5)


def test_folders_are_labels(digits: Path, tmp_path: Path) -> None:
    for file in digits.glob("*_ann_*.wav"):
        (tmp_path / "by_folder" / file.name[0]).mkdir(parents=True, exist_ok=True)
        file.rename(tmp_path / "by_folder" / file.name[0] / f"take {file.stem[-1]}.wav")
    data = build_data(own(tmp_path / "by_folder"))
    assert data.label_names == ("3", "7")
    assert data.train.attribute("speaker") is None


def test_a_run_saves_its_standardisation(digits: Path, tmp_path: Path) -> None:
    data = build_data(own(digits))
    write_waveform(tmp_path / "3_ann_0.wav", sine(100, 1.0), RATE)
    write_waveform(tmp_path / "3_ann_1.wav", sine(3000, 1.0), RATE)
    (tmp_path / "other").mkdir()
    for file in tmp_path.glob("*.wav"):
        file.rename(tmp_path / "other" / file.name)
    other = build_data(own(tmp_path / "other", test_every=2), state=data.state)
    assert isinstance(data.preprocess, LogMelPreprocess)
    assert other.preprocess == data.preprocess
    assert other.label_names == ("3", "7")
    with pytest.raises(ValueError, match=r"audio\.json of the run is damaged"):
        build_data(own(digits), state={**data.state, "audio.json": b"{}"})


def test_clips_are_augmented_in_training_only(digits: Path) -> None:
    data = build_data(own(digits, audio=AudioConfig(max_delay=255, gain_db=3.0)))
    raw, indices = data.train[torch.arange(8)], torch.arange(8)

    def x(step: int, *, evaluation: bool, first: int = 0, last: int = 8) -> torch.Tensor:
        key = noise_key(0, step, first)
        part = slice(first, last)
        return data.preprocess(raw[part], key, indices=indices[part], evaluation=evaluation).x

    assert torch.equal(x(1, evaluation=True), x(2, evaluation=True))
    assert not torch.allclose(x(1, evaluation=False), x(2, evaluation=False))
    halves = torch.cat([x(1, evaluation=False, last=3), x(1, evaluation=False, first=3)])
    assert torch.allclose(halves, x(1, evaluation=False), atol=1e-4)


def test_an_empty_micro_batch_is_accepted(digits: Path) -> None:
    data = build_data(own(digits, audio=AudioConfig(max_delay=255, gain_db=3.0)))
    loader = Loader(data.train, data.preprocess, global_batch_size=2, seed=0, accumulation=3)
    assert sorted(len(micro.batch) for micro in loader.load(0)) == [0, 1, 1]


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16000, 1), (44100, 2), (4000, 1)])
def test_sample_rates_and_channels_are_converted(rate: int, channels: int, tmp_path: Path) -> None:
    samples = sine(440, 2.0, rate).numpy()
    soundfile.write(tmp_path / "x.flac", np.stack([samples] * channels, axis=1), rate)
    read = read_waveform(tmp_path / "x.flac", RATE, 8192)
    inner = slice(500, 7500)  # away from the ends, where the spectrum's period shows
    assert read.shape == (8192,)
    assert torch.allclose(read[inner], sine(440, 2.0)[:8192][inner], atol=0.02)


def test_resampling_preserves_a_tone_and_its_length() -> None:
    assert torch.equal(resample(sine(100), RATE, RATE), sine(100))
    assert resample(sine(100, 1.0), RATE, 11025).shape == (11025,)


def test_a_short_clip_is_padded_with_silence(tmp_path: Path) -> None:
    write_waveform(tmp_path / "x.wav", sine(440, 0.1), RATE)
    assert float(read_waveform(tmp_path / "x.wav", RATE, 8192)[800:].abs().max()) == 0


def wav(samples: np.ndarray, subtype: str) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, RATE, subtype=subtype, format="WAV")
    return stream.getvalue()


HOSTILE = {
    "text": b"I am no sound.",
    "empty file": b"",
    "header only": wav(np.zeros(100), "PCM_16")[:20],
    "no samples": wav(np.zeros(0), "PCM_16"),
    "NaN": wav(np.array([0.0, np.nan, 0.1]), "FLOAT"),
    "infinity": wav(np.array([0.0, np.inf, 0.1]), "FLOAT"),
    "rate 0": wav(np.zeros(100), "PCM_16")[:24] + bytes(4) + wav(np.zeros(100), "PCM_16")[28:],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_damaged_file_is_a_one_line_error(name: str, digits: Path) -> None:
    (digits / "0_ann_0.wav").write_bytes(HOSTILE[name])
    with pytest.raises(ValueError, match=r"0_ann_0\.wav: ") as error:
        build_data(own(digits))
    assert "\n" not in str(error.value)


def test_a_false_length_in_a_header_allocates_no_memory(digits: Path) -> None:
    content = bytearray((digits / "3_ann_0.wav").read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\x7f"  # the sizes of the file and of its data
    (digits / "3_ann_0.wav").write_bytes(bytes(content))
    assert len(build_data(own(digits)).train) == 36


def test_too_many_recordings_are_refused(digits: Path) -> None:
    with pytest.raises(ValueError, match=r"40 recordings take more than .*--data\.max-gib"):
        build_data(own(digits, max_gib=1e-6))


def test_silent_recordings_are_refused(tmp_path: Path) -> None:
    for take in range(3):
        write_waveform(tmp_path / f"1_ann_{take}.wav", torch.zeros(100), RATE)
    with pytest.raises(ValueError, match="silent"):
        build_data(own(tmp_path))


def archive(path: Path, folder: Path) -> Path:
    """Write the folder as the data set's archive in ``path``."""
    (path / "fsdd").mkdir(parents=True)
    with tarfile.open(path / "fsdd" / "recordings.tar.gz", "w:gz") as tar:
        tar.add(folder, "recordings")
    return path / "fsdd" / "recordings.tar.gz"


def test_an_archive_is_split_by_take(digits: Path, tmp_path: Path) -> None:
    archive(tmp_path / "data", digits)
    data = build_data(DataConfig(name="spoken-digits", dir=tmp_path / "data"))
    assert (len(data.train), len(data.test)) == (20, 20)


def test_a_truncated_archive_is_refused(digits: Path, tmp_path: Path) -> None:
    path = archive(tmp_path / "data", digits)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match="archive is truncated or damaged"):
        build_data(DataConfig(name="spoken-digits", dir=tmp_path / "data"))


def test_the_error_for_missing_recordings_names_their_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTVAE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="free-spoken-digit-dataset"):
        build_data(DataConfig(name="spoken-digits"))


@pytest.mark.skipif(
    not (Path(os.environ.get("FASTVAE_DATA", "/nowhere")) / "fsdd").is_dir(),
    reason="FASTVAE_DATA names no folder with fsdd/, the published recordings",
)
def test_the_published_recordings_have_the_published_moments() -> None:
    data = build_data(DataConfig(name="spoken-digits", condition=("label", "speaker")))
    assert (len(data.train), len(data.test), data.condition_dim) == (2700, 300, 16)
    kept = json.loads(data.state["audio.json"])
    assert (kept["mean_level"], kept["deviation"]) == pytest.approx((-9.1894, 5.6767), abs=1e-4)
    assert kept["values"]["speaker"] == ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]
