"""Recipe lossless: the same run on one and two ranks, and after it was stopped."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from fastvae import ops
from tests.faults.program import Program
from tests.runs import metrics

OPTIONS = (
    "--train.steps=8 --train.log-every=1 --train.global-batch-size=8 --train.device=cpu --train.checkpoint-every=3"
)


@pytest.mark.slow
def test_ranks_and_stops_do_not_change_the_run(program: Program, tmp_path: Path) -> None:
    noise = ops.philox_uniform(ops.noise_key(0), 60, 192).view(60, 3, 8, 8)
    np.save(tmp_path / "x.npy", (255 * (noise + noise.roll(1, -1)) / 2).to(torch.uint8).numpy())

    def words(name: str) -> list[str]:
        return [
            "train",
            "lossless",
            f"--data.path={tmp_path / 'x.npy'}",
            f"--run-dir={tmp_path / name}",
            *OPTIONS.split(),
        ]

    program.run_words(*words("one"), output=tmp_path / "one.txt")
    program.run_words(*words("two"), output=tmp_path / "two.txt", ranks=2)
    hook = f"fastvae.train.step:forward 5 {signal.SIGTERM.name}"
    assert program.start(*words("stopped"), output=tmp_path / "stopped.txt", FAULT_HOOK=hook).wait() == 143
    program.run_words(*words("stopped"), output=tmp_path / "resumed.txt")
    weights = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two", "stopped")}
    assert weights["stopped"] == weights["one"]
    for name in ("loss_nats", "rate_nats", "distortion_nats"):
        first, second = (metrics(tmp_path / each, "train")[0][name] for each in ("one", "two"))
        assert second == pytest.approx(first, rel=1e-6), name
    one, two = (safetensors.torch.load(weights[name]) for name in ("one", "two"))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, atol=1e-3, rtol=0)
