"""Short runs of the benchmarks of speech and text."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.test_app_images import DATA, run_script
from tests.faults.program import Program

needs_digits = pytest.mark.skipif(not (DATA / "fsdd").is_dir(), reason=f"no fsdd/ in {DATA}; set FASTVAE_DATA")
needs_sst2 = pytest.mark.skipif(not (DATA / "sst2_glue").is_dir(), reason=f"no sst2_glue/ in {DATA}; set FASTVAE_DATA")


@needs_digits
def test_speech_requested_digits_are_recognised_above_chance(tmp_path: Path, program: Program) -> None:
    pytest.importorskip("soundfile")
    options = ["--steps=100", "--epochs=1", "--per-pair=1", "--num-samples=2", f"--pictures={tmp_path}"]
    rows = run_script(program, "app_speech.py", tmp_path, *options)
    values = {row["figure"]: row["value"] for row in rows}
    assert values["classifier's accuracy on real test clips"] > 0.3
    assert values["requested digit recognised"] > 0.15  # chance gives 0.1
    assert values["test MSE of standardised log-mels, z 16"] < 0.2  # the mean clip has 0.33
    assert values["share of WAV files that clip"] == 0
    assert (tmp_path / "speech-samples.png").is_file()


@needs_sst2
def test_text_samples_have_the_requested_length(tmp_path: Path, program: Program) -> None:
    options = ["--scale=0.005", "--num-samples=2", "--per-label=26", "--pairs=4", f"--pictures={tmp_path}"]
    rows = run_script(program, "app_text.py", tmp_path, *options)
    values = {row["figure"]: row["value"] for row in rows}
    assert values["requested length exact"] == 1
    assert 0.75 < values["classifier's accuracy on real test sentences"] < 0.9
    assert 50 < values["NLL (nats per sentence)"] < 250
    name = "runs of three tokens that occur in the training phrases"
    assert 0 < values[f"{name}: real test sentences"] < 0.5
    assert 0 <= values[f"{name}: between sentences"] <= 1
    assert "test sentences 0 and 3:" in (tmp_path / "text-interpolations.txt").read_text(encoding="utf-8")
