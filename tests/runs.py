"""Shared by tests of runs: a small model, a short training run, and the records of a run directory."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from torch import nn

import fastvae
from fastvae.train.run_dir.run_dir import RunDir

SMALL = {"final_samples": 1, "global_batch_size": 16, "device": "cpu"}
"""Settings of a short run, except its steps."""


def digits() -> fastvae.Data:
    """Images of handwritten digits [1, 8, 8]; their pixels are dequantised."""
    return fastvae.build_data(fastvae.DataConfig(name="digits"), 0)


def small_vae(event_shape: tuple[int, ...] = (1, 8, 8), *, latent_dim: int = 4) -> fastvae.VAE:
    """A VAE with one hidden layer of 16 units and a Gaussian likelihood; the weights are the same at every call."""
    config = fastvae.ModelConfig(hidden_dim=(16,), latent_dim=latent_dim, likelihood="gaussian")
    model = fastvae.build_model(config, event_shape, seed=0)
    assert isinstance(model, fastvae.VAE)
    return model


def train(
    run_dir: Path | None, model: nn.Module | None = None, data: Any = None, *, resume: Any = True, **settings: Any
) -> fastvae.Run:
    """Train a model (default `small_vae`) on data (default `digits`)."""
    config = fastvae.TrainConfig(**{**SMALL, **settings})
    data = digits() if data is None else data
    return fastvae.train(model or small_vae(), data, config, run_dir=run_dir, resume=resume)


def metrics(run_dir: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """Return the records of a run's metrics, or those of one kind, such as train."""
    records = map(json.loads, RunDir(run_dir).metrics.read_text().splitlines())
    return [record for record in records if kind in (None, record["kind"])]


def status(run_dir: Path) -> dict[str, Any]:
    """Return the status of a run; empty if it has not started."""
    path = RunDir(run_dir).status
    return json.loads(path.read_text()) if path.exists() else {}


def free_port() -> int:
    """Return an unused port of this machine."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
