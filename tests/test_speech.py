"""From a folder of recordings to spoken digits on demand, by the commands that a person types."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch

from fastvae import cli
from fastvae.data.audio.waveform import read_waveform, write_waveform

pytest.importorskip("soundfile")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on tones "said" by two speakers, whose recordings are gone when it is done."""
    folder, directory = tmp_path_factory.mktemp("recordings"), tmp_path_factory.mktemp("runs") / "run"
    for digit in (3, 7):
        for take in range(12):
            tone = 0.4 * torch.sin(2 * math.pi * (100 * digit + take) * torch.arange(4000) / 8000)
            write_waveform(folder / f"{digit}_{('ann', 'bob')[take % 2]}_{take}.wav", tone, 8000)
    options = ["--train.steps=12", "--train.global-batch-size=8", "--train.final-samples=2", "--model.hidden-dim", "32"]
    own = ["--data.name=file", f"--data.path={folder}", "--train.objective.kl-warmup-steps=4"]
    assert cli.main(["train", "spoken-digits", f"--run-dir={directory}", *own, *options]) == 0
    shutil.rmtree(folder)
    return directory


def test_training_leaves_sound_and_pictures(run: Path) -> None:
    for folder in ("samples", "reconstructions"):
        assert (run / folder / "spectrograms.png").is_file()
        assert list((run / folder).glob("*.wav"))


def test_a_digit_by_a_speaker_is_written_as_wavs(run: Path, tmp_path: Path) -> None:
    words = ["sample", str(run), "--num=2", "--label=7", "--condition", "speaker=ann", f"--out={tmp_path / 'sevens'}"]
    assert cli.main(words) == 0
    assert float(read_waveform(tmp_path / "sevens" / "002.wav", 8000, 8192).abs().max()) <= 0.951


def test_a_folder_holds_what_was_asked_for_last_and_what_was_not_ours(run: Path, tmp_path: Path) -> None:
    for num in ("4", "2"):
        assert cli.main(["sample", str(run), f"--num={num}", f"--out={tmp_path}"]) == 0
        (tmp_path / "mine.wav").touch()
    assert sorted(path.name for path in tmp_path.glob("*.wav")) == ["001.wav", "002.wav", "mine.wav"]


def test_sound_is_no_single_file(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sample", str(run), "--num=1", f"--out={tmp_path / 'seven.wav'}"]) == 2
    assert "become a folder of WAV files, got seven.wav; name such, or a folder" in capsys.readouterr().err


def test_a_speaker_that_nobody_knows_is_one_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sample", str(run), "--label=7", "--condition", "speaker=eve"]) == 2
    error = capsys.readouterr().err
    assert "speaker must be one of ann, bob, got 'eve'" in error
    assert error.count("\n") == 1
