"""Training on a folder of recordings and sampling spoken digits, on the command line."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path

import pytest
import torch

from fastvae import cli
from fastvae.data.audio.waveform import read_waveform, write_waveform

pytest.importorskip("soundfile")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on tones by two "speakers", whose recordings are deleted after training."""
    folder, directory = tmp_path_factory.mktemp("recordings"), tmp_path_factory.mktemp("runs") / "run"
    for digit in (3, 7):
        for take in range(12):
            tone = 0.4 * torch.sin(2 * math.pi * (100 * digit + take) * torch.arange(4000) / 8000)
            write_waveform(folder / f"{digit}_{('ann', 'bob')[take % 2]}_{take}.wav", tone, 8000)
    options = ["--train.steps=12", "--train.global-batch-size=8", "--train.final-samples=2", "--model.hidden-dim", "32"]
    own = ["--data.name=file", f"--data.path={folder}", "--train.objective.kl-warmup=4"]
    assert cli.main(["train", "spoken-digits", f"--run-dir={directory}", *own, *options]) == 0
    shutil.rmtree(folder)
    return directory


def test_training_writes_sound_and_pictures(run: Path) -> None:
    for folder in ("samples", "reconstructions"):
        assert (run / folder / "spectrograms.png").is_file()
        assert list((run / folder).glob("*.wav"))


def test_samples_of_a_digit_by_a_speaker_are_written_as_wav_files(run: Path, tmp_path: Path) -> None:
    words = ["sample", str(run), "--num=2", "--label=7", "--condition", "speaker=ann", f"--out={tmp_path / 'sevens'}"]
    assert cli.main(words) == 0
    assert float(read_waveform(tmp_path / "sevens" / "002.wav", 8000, 8192).abs().max()) <= 0.951


def test_sampling_replaces_earlier_samples_but_no_other_files(run: Path, tmp_path: Path) -> None:
    for num in ("4", "2"):
        assert cli.main(["sample", str(run), f"--num={num}", f"--out={tmp_path}"]) == 0
        (tmp_path / "mine.wav").touch()
    assert sorted(path.name for path in tmp_path.glob("*.wav")) == ["001.wav", "002.wav", "mine.wav"]


def test_a_single_wav_file_as_output_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sample", str(run), "--num=1", f"--out={tmp_path / 'seven.wav'}"]) == 2
    assert "got seven.wav" in capsys.readouterr().err


def test_an_unknown_speaker_is_a_one_line_error(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sample", str(run), "--label=7", "--condition", "speaker=eve"]) == 2
    error = capsys.readouterr().err
    assert re.search("speaker .*ann, bob, got 'eve'", error)
    assert error.count("\n") == 1
