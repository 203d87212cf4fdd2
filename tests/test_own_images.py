"""Training on a user's folder of images whose subfolders are classes, and commands with class names."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastvae
from fastvae import cli

GREYS = {"cat": 40, "dog": 120, "horse": 220}  # mean brightness of a class's images
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


def test_classes_have_the_names_of_their_folders(run_dir: Path, tmp_path: Path) -> None:
    assert cli.main(["sample", str(run_dir), "--label=cat", "--num=4", f"--out={tmp_path / 'cats.png'}"]) == 0
    run = fastvae.load(run_dir)
    assert run.data.label_names == ("cat", "dog", "horse")
    means = {name: float(run.sample(16, label=name).mean()) for name in GREYS}
    assert means["cat"] < means["dog"] < means["horse"]


def test_a_folder_with_fewer_classes_has_the_same_labels(run_dir: Path, tmp_path: Path) -> None:
    few = write_images(tmp_path / "few", ["dog", "horse"], 3)
    encoded = fastvae.load(run_dir).encode(few)
    assert encoded["label"].tolist() == [1, 1, 1, 2, 2, 2]


def test_an_unknown_class_is_a_one_line_error(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_images(tmp_path / "other", ["dog", "eel"], 2)
    capsys.readouterr()
    assert cli.main(["score", str(run_dir), f"--data={other}", f"--out={tmp_path / 's.csv'}"]) == 2
    error = capsys.readouterr().err
    assert re.search(r"'eel' .*\['cat', 'dog', 'horse'\]", error)
    assert error.count("\n") == 1


@pytest.mark.parametrize(("trained_on", "given"), [(1, 255), (255, 1)])
def test_pixels_on_another_scale_are_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trained_on: int, given: int
) -> None:
    noise = np.random.default_rng(0)
    for name, highest in (("train.npy", trained_on), ("other.npy", given)):
        pixels = noise.integers(0, 2, (40, 6, 6)) if highest == 1 else noise.integers(0, 256, (40, 6, 6))
        np.save(tmp_path / name, pixels.astype(np.uint8))
    words = [*OPTIONS, "--train.steps=1", f"--data.path={tmp_path / 'train.npy'}", f"--run-dir={tmp_path / 'run'}"]
    words[1] = "mnist"
    assert cli.main(words) == 0
    capsys.readouterr()
    assert (
        cli.main(["score", str(tmp_path / "run"), f"--data={tmp_path / 'other.npy'}", f"--out={tmp_path / 's.csv'}"])
        == 2
    )
    expected = {255: r"other\.npy: pixels .*0 \.\. 1.* got 255", 1: r"other\.npy: pixels .*255"}
    assert re.fullmatch(f"fastvae: {tmp_path}/{expected[given]}[^\n]*\n", capsys.readouterr().err)


@pytest.mark.parametrize("content", ["a sentence\n", "user_id,item_id\na,b\n", "x,y\n1,2\n"])
def test_a_file_of_another_kind_is_a_one_line_error(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    path = tmp_path / ("s.txt" if content.startswith("a") else "s.csv")
    path.write_text(content, encoding="utf-8")
    capsys.readouterr()
    for command, out in (("score", "s.csv"), ("reconstruct", "r.png"), ("encode", "z.npz")):
        assert cli.main([command, str(run_dir), f"--data={path}", f"--out={tmp_path / 'new' / out}"]) == 2
        error = capsys.readouterr().err
        assert f"{path}: " in error
        assert error.count("\n") == 1


def test_class_names_are_available_without_the_folder(run_dir: Path) -> None:
    images = run_dir.parent / "images"
    images.rename(run_dir.parent / "elsewhere")
    try:
        assert fastvae.load(run_dir).sample(2, label="horse").shape == (2, 1, 8, 8)
    finally:
        (run_dir.parent / "elsewhere").rename(images)


def test_a_folder_of_photographs_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    noise = np.random.default_rng(0)
    for number in range(12):
        pixels = noise.integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number:02}.jpg")
    words = ["train", "images", f"--run-dir={tmp_path / 'run'}", "--train.steps=2", "--train.global-batch-size=4"]
    words += ["--train.final-samples=1", "--data.images.size=16", "--data.images.fit=pad", "--model.conv.channels=8"]
    assert cli.main(words) == 2
    assert "needs a path (--data.path)" in capsys.readouterr().err
    assert cli.main([*words, f"--data.path={tmp_path / 'photos'}"]) == 0
    assert "12 resized to 16 x 16" in capsys.readouterr().err
    run = fastvae.load(tmp_path / "run")
    assert run.sample(2).shape == (2, 3, 16, 16)
    assert len(run.score(tmp_path / "photos")) == 12
