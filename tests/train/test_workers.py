"""Training on images that worker processes decode and augment: the same run for any number of them, and resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests import launching
from tests.data.test_shards import write_tar
from tests.data.test_workers import write_images

OPTIONS = (
    "--data.images.size 8 --data.images.augment random-resized-crop flip colour-jitter --data.validation-share 0 "
    "--train.global-batch-size 8 --train.log-every 4 --train.checkpoint-every 5 --train.final-samples 1 "
    "--train.no-keep-best --train.early-stopping.patience None --model.hidden-dim 16 --model.latent-dim 3"
).split()


def train(images: Path, run_dir: Path, *words: str, steps: int = 24, processes: int = 1, check: bool = True) -> Any:
    return launching.fastvae(
        *("train", "images", "--model.network", "mlp", f"--data.path={images}", f"--run-dir={run_dir}", *OPTIONS),
        *(f"--train.steps={steps}", *words),
        num_processes=processes,
        check=check,
    )


def weights(run_dir: Path) -> bytes:
    return (run_dir / "model.safetensors").read_bytes()


def records(run_dir: Path) -> list[dict[str, Any]]:
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == "train"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_is_the_same_for_any_number_of_workers(images: Path, tmp_path: Path, processes: int) -> None:
    for workers in (0, 2):
        result = train(images, tmp_path / str(workers), f"--data.workers={workers}", processes=processes)
        readers = "2 workers per rank" if workers else "read in the training process"
        assert f"of the time ({readers})" in result.stderr
    assert weights(tmp_path / "0") == weights(tmp_path / "2")
    for record in records(tmp_path / "2"):
        assert 0 <= record["data_wait_share"] <= 1
        assert record["data_wait_ms"] >= 0


def test_a_run_that_is_killed_within_an_epoch_goes_on_as_if_it_had_not_been(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KILL_AFTER", str(tmp_path / "killed" / "checkpoints"))
    train(images, tmp_path / "whole", "--data.workers=1")
    killed = train(images, tmp_path / "killed", "--data.workers=2", "--plugin=tests.killed", check=False)
    assert killed.returncode == -9
    monkeypatch.delenv("KILL_AFTER")
    resumed = train(images, tmp_path / "killed", "--data.workers=3", "--plugin=tests.killed")
    assert "from the checkpoint of step 10" in resumed.stderr
    assert weights(tmp_path / "whole") == weights(tmp_path / "killed")


def test_a_damaged_image_stops_the_run_or_is_replaced(images: Path, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images")
    Image.effect_noise((99, 99), 90).save(folder / "005.jpg")
    content = (folder / "005.jpg").read_bytes()
    (folder / "005.jpg").write_bytes(content[: len(content) // 2])  # its header can be read
    (folder / "006.png").write_bytes(b"not an image")
    stopped = train(folder, tmp_path / "run", "--data.workers=2", check=False)
    assert stopped.returncode == 2
    assert "006.png: not an image" in stopped.stderr
    (folder / "006.png").rename(tmp_path / "006.png")
    stopped = train(folder, tmp_path / "run", "--data.workers=2", check=False)
    assert stopped.returncode == 2
    assert "005.jpg: the image is truncated or damaged" in stopped.stderr
    (tmp_path / "006.png").rename(folder / "006.png")
    left_out = train(folder, tmp_path / "left out", "--data.workers=2", "--data.on-bad-example=replace").stderr
    assert "1 left out that cannot be read, such as" in left_out
    assert "1 left out that cannot be decoded, such as" in left_out
    assert "19 images read" in left_out


def test_a_damaged_image_in_a_shard_is_replaced_and_counted(images: Path, tmp_path: Path) -> None:
    members = [(path.name, path.read_bytes()) for path in sorted(images.iterdir())]
    members[5] = (members[5][0], members[5][1][:-40])
    write_tar(tmp_path / "shards" / "a.tar", members)
    words = ("--data.workers=2", "--data.on-bad-example=replace", "--data.test-every=21")
    said = train(tmp_path / "shards", tmp_path / "run", *words, steps=10).stderr
    assert said.count("a.tar, example 5: the image is truncated or damaged") == 4  # 20 examples: four epochs
    assert records(tmp_path / "run")[-1]["replaced_examples"] == 4
