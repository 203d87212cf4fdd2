"""From a person's own folder of images to a run that knows its classes by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastvae
from fastvae import cli

GREYS = {"cat": 40, "dog": 120, "horse": 220}  # a class's images are about so bright
OPTIONS = (
    "train mnist-class --data.name file --data.binarize none --train.steps 40 --train.global-batch-size 16"
    " --train.final-samples 1 --model.hidden-dim 32 --model.latent-dim 2"
).split()


def write_images(folder: Path, classes: list[str], num: int) -> Path:
    noise = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(num):
            pixels = noise.integers(-20, 20, (8, 8)) + GREYS.get(name, 0) + 20
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    images = write_images(folder / "images", list(GREYS), 30)
    assert cli.main([*OPTIONS, "--data.path", str(images), "--run-dir", str(folder / "run")]) == 0
    return folder / "run"


def test_classes_go_by_the_names_of_their_folders(run_dir: Path, tmp_path: Path) -> None:
    assert cli.main(["sample", str(run_dir), "--label=cat", "--num=4", f"--out={tmp_path / 'cats.png'}"]) == 0
    run = fastvae.load(run_dir)
    assert run.data.label_names == ("cat", "dog", "horse")
    means = {name: float(run.sample(16, label=name).mean()) for name in GREYS}
    assert means["cat"] < means["dog"] < means["horse"]


def test_a_folder_with_fewer_classes_has_the_same_labels(run_dir: Path, tmp_path: Path) -> None:
    few = write_images(tmp_path / "few", ["dog", "horse"], 3)
    encoded = fastvae.load(run_dir).encode(few)
    assert encoded["label"].tolist() == [1, 1, 1, 2, 2, 2]


def test_a_class_that_the_run_does_not_know_is_one_line(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_images(tmp_path / "other", ["dog", "eel"], 2)
    capsys.readouterr()
    assert cli.main(["score", str(run_dir), f"--data={other}", f"--out={tmp_path / 's.csv'}"]) == 2
    error = capsys.readouterr().err
    assert "sub-folder 'eel' is none of the training classes ['cat', 'dog', 'horse']" in error
    assert error.count("\n") == 1


def test_the_names_outlive_the_folder(run_dir: Path) -> None:
    images = run_dir.parent / "images"
    images.rename(run_dir.parent / "elsewhere")
    try:
        assert fastvae.load(run_dir).sample(2, label="horse").shape == (2, 1, 8, 8)
    finally:
        (run_dir.parent / "elsewhere").rename(images)
