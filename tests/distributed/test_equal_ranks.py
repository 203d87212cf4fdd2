"""Ranks that were given other data than rank 0 are refused."""

from __future__ import annotations

from pathlib import Path

from tests import launching

PROGRAM = """
import os, sys, torch, fastvae
rank = int(os.environ["RANK"])
torch.manual_seed(0)
model = fastvae.VAE(fastvae.MLPEncoder(6, 4, 2), fastvae.MLPDecoder(2, 4, 6), fastvae.Gaussian())
data = torch.rand(60, 6) + rank
fastvae.train(model, data, fastvae.TrainConfig(steps=1, global_batch_size=4, log_every=1), run_dir=sys.argv[1])
"""


def test_ranks_with_different_data_are_refused(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    finished = launching.run([str(program), str(tmp_path / "run")], num_processes=2, check=False)
    assert finished.returncode != 0
    assert "data must be equal on all ranks, 1 of 2 ranks" in finished.stderr
    assert not (tmp_path / "run" / "model.safetensors").exists()
