"""Files of a run follow the umask, for each library that writes them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fastvae.distributed import write_tensors
from fastvae.train.run_dir.files import write_atomic
from fastvae.train.run_dir.weights import write_weights


@pytest.fixture(params=[0o027, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_weights_checkpoints_and_small_files_obey_the_umask(umask: int, tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 1)
    write_weights(tmp_path / "model.safetensors", model)
    write_tensors(tmp_path / "checkpoint", model.state_dict(), None)
    write_atomic(tmp_path / "status.json", "{}")
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()}
    assert len(modes) >= 3
    assert set(modes.values()) == {0o666 & ~umask}, modes
