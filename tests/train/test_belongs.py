"""A run directory is resumed only with its own format, model and data, in any location."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastvae
from fastvae import cli
from fastvae.data.source import DatasetSource, TensorSource
from fastvae.train.run_dir.identity import identify
from fastvae.train.run_dir.new import new_run_dir
from fastvae.train.run_dir.record import FORMAT
from fastvae.train.run_dir.run_dir import RunDir
from tests import runs

EXAMPLES = np.random.default_rng(0).random((64, 6)).astype(np.float32)


def vae(width: int = 4, activation: type[torch.nn.Module] = torch.nn.ReLU) -> fastvae.VAE:
    encoder = fastvae.MLPEncoder(6, (width,), 2)
    encoder.extra = activation()
    return fastvae.VAE(encoder, fastvae.MLPDecoder(2, (width,), 6), fastvae.Gaussian())


def train(run_dir: Path | None, model: torch.nn.Module | None = None, data: Any = EXAMPLES, **options: Any) -> Any:
    return runs.train(run_dir, model or vae(), data, **{"steps": 2, "global_batch_size": 8, **options})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("belongs") / "run").directory


@pytest.fixture
def run_dir(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def one_number_changed() -> np.ndarray:
    changed = EXAMPLES.copy()
    changed[33, 3] += 0.5
    return changed


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (one_number_changed(), "train examples: have other values"),
        (EXAMPLES[:40], "train examples: num_examples was 57, now 36"),
        (fastvae.data.as_data(EXAMPLES, name="others"), "name was 'data', now 'others'"),
    ],
)
def test_other_data_are_refused(run_dir: Path, data: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"other data .*{words}.*choose another run directory"):
        train(run_dir, data=data)
    shutil.rmtree(RunDir(run_dir).checkpoints)  # the results alone are as good
    with pytest.raises(ValueError, match=words):
        train(run_dir, data=data)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (vae(width=5), r"was .*\[4, 6\], now .*\[5, 6\]"),
        (vae(activation=torch.nn.GELU), r"was generator: encoder\.extra: ReLU, now generator: encoder\.extra: GELU"),
    ],
)
def test_another_model_is_refused(run_dir: Path, model: torch.nn.Module, words: str) -> None:
    with pytest.raises(ValueError, match=f"another model .*{words}.*choose another run directory"):
        train(run_dir, model)


def test_a_run_without_checkpoints_accepts_other_settings(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be"):
        train(tmp_path / "run", data=EXAMPLES, on_save_error="never")
    run = train(tmp_path / "run", steps=1)
    shutil.rmtree(RunDir(run.directory).checkpoints)
    RunDir(run.directory).weights.unlink()
    assert train(tmp_path / "run", vae(width=5), data=EXAMPLES[:40]).status == "done"


class Random:
    """A user's data set that augments at random: an example differs at every read."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> np.ndarray:
        return EXAMPLES[index] + np.random.default_rng().normal(size=6).astype(np.float32)


def test_random_examples_are_accepted_on_resume(tmp_path: Path) -> None:
    assert train(tmp_path / "run", data=Random()).step == 2
    assert train(tmp_path / "run", data=Random(), steps=4).step == 4


@pytest.mark.parametrize(("kind", "most"), [(TensorSource, 32 * 2**20 + 1), (DatasetSource, 33)])
def test_the_identity_of_large_data_reads_a_part_of_them(kind: Any, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    read, get = [], kind.__getitem__
    data = fastvae.data.as_data(tuple(kind(torch.ones(num, 1, dtype=torch.uint8)) for num in (2**26, 2)))
    monkeypatch.setattr(kind, "__getitem__", lambda source, rows: read.append(len(rows)) or get(source, rows))
    found = identify({"generator": vae()}, data)
    assert found["data"]["train"]["num_examples"] == 2**26
    assert sum(read) < most + 10


@pytest.mark.parametrize("found", [None, FORMAT + 1])
def test_another_format_is_refused(run_dir: Path, found: int | None, capsys: pytest.CaptureFixture[str]) -> None:
    record = RunDir(run_dir).record
    if found is None:
        record.unlink()
    else:
        record.write_text(json.dumps({**json.loads(record.read_text()), "format": found}))
    words = f"run of format {found or 0}, .* format {FORMAT} only"
    with pytest.raises(ValueError, match=words):
        train(run_dir)
    with pytest.raises(ValueError, match=words):
        fastvae.load(run_dir)
    assert cli.main(["status", str(run_dir)]) == 2
    assert f"format {FORMAT} only" in capsys.readouterr().err


def test_resume_false_refuses_a_used_directory(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="resume=False starts a new one; choose another run_dir"):
        train(run_dir, resume=False)
    assert train(tmp_path / "new", resume=False).status == "done"


def test_resume_false_continues_after_a_restart_by_its_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "mine")
    train(tmp_path / "run", resume=False)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert train(tmp_path / "run", resume=False).step == 2
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "other")
    with pytest.raises(ValueError, match="resume=False"):
        train(tmp_path / "run", resume=False)


def test_resume_must_requires_a_checkpoint(run_dir: Path, tmp_path: Path) -> None:
    assert train(run_dir, resume="must").step == 2
    with pytest.raises(ValueError, match="no valid checkpoint to resume from"):
        train(tmp_path / "new", resume="must")
    with pytest.raises(ValueError, match="resume must be True, False or 'must', got 'maybe'"):
        train(tmp_path / "new", resume="maybe")


def test_each_call_without_a_directory_creates_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = (train(None, steps=1).directory for _ in range(2))
    assert first != second
    assert {first.parent, second.parent} == {Path("runs")}


def test_a_run_is_resumed_and_evaluated_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tmp_path / "project", tmp_path / "moved"
    old.mkdir()
    np.save(old / "own.npy", EXAMPLES)
    monkeypatch.chdir(old)
    words = "train digits --model.hidden-dim 4 --train.global-batch-size 8 --train.final-samples 1 --train.device cpu"
    assert cli.main([*words.split(), "--data.path", "own.npy", "--run-dir", "run", "--train.steps", "2"]) == 0
    evaluation = fastvae.load("run").evaluate()
    monkeypatch.chdir(tmp_path)
    assert fastvae.load("project/run").evaluate() == evaluation
    os.rename(old, new)
    assert fastvae.load("moved/run").evaluate() == evaluation
    words = [*words.split(), "--data.path", "moved/own.npy", "--run-dir", "moved/run", "--train.steps", "4"]
    assert cli.main(words) == 0
    assert json.loads((new / "run" / "status.json").read_text())["step"] == 4
    np.save(new / "own.npy", one_number_changed())
    assert cli.main(words) == 2


def test_processes_without_a_directory_agree_on_one_or_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="run_dir must be set"):
        new_run_dir()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "4711")
    first, second = new_run_dir(), new_run_dir()
    assert first.name.startswith("custom-4711-")
    assert first != second
