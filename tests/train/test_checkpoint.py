"""Checkpoints: written atomically, verified, never unpickled."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import fastvae
from fastvae.train.run_dir.checkpoint import CheckpointError, read_checkpoint
from tests import runs

SETTINGS = {"steps": 30, "checkpoint_every": 10, "keep_checkpoints": 3, "ema": 0.9}


def train(run_dir: Path, **changes: object) -> fastvae.Run:
    return runs.train(run_dir, **{**SETTINGS, **changes})


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    train(tmp_path)
    return tmp_path / "checkpoints"


def test_only_the_newest_checkpoints_are_kept(finished: Path) -> None:
    assert sorted(p.name for p in finished.iterdir()) == ["step_00000010", "step_00000020", "step_00000030"]
    train(finished.parent, steps=50)
    assert sorted(p.name for p in finished.iterdir()) == ["step_00000030", "step_00000040", "step_00000050"]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def add(path: Path) -> None:
    (path.parent / "extra.bin").write_bytes(b"x")


@pytest.mark.parametrize("damage", [truncate, flip, add, Path.unlink])
def test_a_damaged_checkpoint_is_reported_and_the_previous_one_is_used(
    finished: Path, damage: Callable[[Path], None]
) -> None:
    weights = (finished.parent / "model.safetensors").read_bytes()
    for path in list((finished / "step_00000030").iterdir())[:1]:
        damage(path)
    with pytest.warns(UserWarning, match=r"checkpoint skipped: .*step_00000030"):
        run = train(finished.parent)
    assert run.step == 30
    assert (finished.parent / "model.safetensors").read_bytes() == weights
    read_checkpoint(finished / "step_00000030")


@pytest.mark.parametrize("name", ["manifest.json", "state.json"])
def test_every_flipped_byte_of_the_json_is_detected(finished: Path, name: str) -> None:
    path = finished / "step_00000030" / name
    content = path.read_bytes()
    for position in range(0, len(content), 7):
        changed = bytearray(content)
        changed[position] ^= 0x02
        path.write_bytes(bytes(changed))
        with pytest.raises(CheckpointError):
            read_checkpoint(path.parent)
    path.write_bytes(content)
    read_checkpoint(path.parent)


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("something was unpickled")

    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    train(tmp_path, steps=20)
    assert train(tmp_path).step == 30


def test_resume_restores_weights_average_and_optimizer(tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    train(whole, schedule="constant")
    train(halves, schedule="constant", steps=15)
    train(halves, schedule="constant")
    for name in (path.name for path in (whole / "checkpoints/step_00000030").glob("*.safetensors")):
        one, other = (load_file(run / "checkpoints/step_00000030" / name) for run in (whole, halves))
        assert one.keys() == other.keys()
        assert any(tensor.startswith("generator.optimizer.") for tensor in one)
        assert any(tensor.startswith("generator.averages.") for tensor in one)
        for tensor, value in one.items():
            assert torch.equal(value, other[tensor]), tensor


def test_changed_settings_are_refused_by_name(finished: Path) -> None:
    with pytest.raises(ValueError, match=r"train\.lr was 0\.001, now 0\.002.*choose another --run-dir"):
        train(finished.parent, lr=2e-3)
    with pytest.raises(ValueError, match=r"is at step 30, past the 20 requested steps"):
        train(finished.parent, steps=20)
