"""Files of weights."""

from __future__ import annotations

from pathlib import Path

import safetensors
from torch import nn

import fastvae
from fastvae.train.run_dir.weights import write_weights


def test_equal_weights_are_equal_files(tmp_path: Path) -> None:
    model = nn.Linear(3, 4)
    files = []
    for number in range(12):  # the library alone writes two entries of metadata in either order
        write_weights(tmp_path / f"{number}.safetensors", model)
        files.append((tmp_path / f"{number}.safetensors").read_bytes())
    assert len(set(files)) == 1
    with safetensors.safe_open(tmp_path / "0.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "fastvae_version": fastvae.__version__}
        assert (file.get_tensor("weight") == model.weight).all()
