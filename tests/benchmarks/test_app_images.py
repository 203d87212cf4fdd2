"""Short runs of the benchmarks of images, features and compression; skipped if MNIST is not available."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.faults.program import Program

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("FASTVAE_DATA") or ROOT.parent / "shared" / "data")
needs_mnist = pytest.mark.skipif(not (DATA / "mnist").is_dir(), reason=f"no mnist/ in {DATA}; set FASTVAE_DATA")


def run_script(program: Program, name: str, folder: Path, *options: str) -> list[dict[str, Any]]:
    """Run a benchmark in a folder, as a process of its own; its rows."""
    out = folder / "out.json"
    place = {"folder": folder, "output": folder / "said.txt", "FASTVAE_DATA": str(DATA)}
    process = program.start_script(ROOT / "benchmarks" / name, *options, "--out", str(out), **place)
    assert process.wait() == 0, process.text()[-6000:]
    return json.loads(out.read_text())


@needs_mnist
def test_images_requested_classes_are_recognised_above_chance(tmp_path: Path, program: Program) -> None:
    rows = run_script(program, "app_images.py", tmp_path, "--steps=600", "--epochs=1", "--per-class=20")
    values = {row["figure"]: row["value"] for row in rows}
    assert values["classifier's accuracy on real test digits"] > 0.9
    assert values["requested class recognised (means)"] > 0.2  # chance gives 0.1
    assert all(row["met"] is None for row in rows if not row["bar"])
    command = "python benchmarks/app_images.py --steps=600 --epochs=1 --per-class=20"  # without --out
    assert {row["command"] for row in rows} == {command}


@needs_mnist
def test_likelihood_writes_a_row_per_configuration(tmp_path: Path, program: Program) -> None:
    options = ["--minutes-per-row=0.01", "--samples=2", "--rows", "1-1", "2-5"]
    rows = run_script(program, "app_likelihood.py", tmp_path, *options)
    assert [row["value"] < 300 for row in rows] == [True, True]
    assert [row["bar"] for row in rows] == ["", ""]  # the requirement is for 300 epochs
    assert (tmp_path / "out.md").read_text().count("\n| ") == 3


@needs_mnist
def test_likelihood_keeps_rows_with_other_numbers_of_epochs(tmp_path: Path, program: Program) -> None:
    for epochs in ("0.1", "0.6"):
        options = ["--rows=1-1", "--epochs", epochs, "--samples=2", "--runs", epochs]
        rows = run_script(program, "app_likelihood.py", tmp_path, *options)
    assert ["0 epochs" in row["figure"] for row in rows] == [True, False]
    assert [line.split("|")[6].strip() for line in (tmp_path / "out.md").read_text().splitlines()[6:]] == ["0", "1"]
    more = ["--rows=1-5", "--epochs=0.6", "--samples=2", "--runs=more", "--precision=bf16"]
    rows = run_script(program, "app_likelihood.py", tmp_path, *more)  # compares K with the rows of earlier calls
    assert [row["figure"] for row in rows if row["bar"]] == [
        "1 layer(s): NLL of K = 1 minus that of K = 5, 1 epochs (nats)"
    ]


@needs_mnist
def test_features_are_compared_with_pca(tmp_path: Path, program: Program) -> None:
    rows = run_script(program, "app_features.py", tmp_path, "--steps=60", "--train-examples=1500")
    held = [row for row in rows if row["bar"]]
    assert [row["bar"] for row in held] == [">= 1", ">= -1"]
    assert all(0.3 < row["value"] <= 1 for row in rows if not row["bar"])


@needs_mnist
def test_compression_recovers_images_at_about_their_elbo(tmp_path: Path, program: Program) -> None:
    options = ["--only=mnist", "--steps=60", "--num=1000", "--run-dir", str(tmp_path / "runs")]
    rows = run_script(program, "app_compression.py", tmp_path, *options)
    values = {(row["application"], row["figure"]): row["value"] for row in rows}
    for kind, header in (("binary", 0.02), ("8 bits", 0.01)):  # the header's share is larger for few images
        assert values[f"compression, {kind}", "files that come back byte for byte"] == 1
        assert abs(values[f"compression, {kind}", "size over the negative ELBO, less 1"]) < header
    lossy = [row for row in rows if row["application"] == "compression, lossy"]
    assert ["fastvae" in row["figure"] for row in lossy].count(True) == 5
    assert ["JPEG" in row["figure"] for row in lossy].count(True) == 8


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "omniglot_small").is_dir(), reason=f"no omniglot_small/ in {DATA}; set FASTVAE_DATA")
def test_compression_of_unseen_sets_recovers_them(tmp_path: Path, program: Program) -> None:
    options = ["--only=letters", "--steps=30", "--run-dir", str(tmp_path / "runs")]
    rows = run_script(program, "app_compression.py", tmp_path, *options)
    values = {(row["application"], row["figure"]): row["value"] for row in rows}
    assert values["compression, letters", "files that come back byte for byte"] == 1
    assert values["compression, letters", "size of the model, bytes"] > 1e5
