"""What tests of runs need: a small model, a short training run, and what a run directory says."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from torch import nn

import fastvae
from fastvae.train.run_dir.run_dir import RunDir

SMALL = {"final_samples": 1, "global_batch_size": 16, "device": "cpu"}
"""Settings of a short run, beside its steps."""


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
    """Train a model, `small_vae` where none is given, on data, `digits` where none are given."""
    config = fastvae.TrainConfig(**{**SMALL, **settings})
    data = digits() if data is None else data
    return fastvae.train(model or small_vae(), data, config, run_dir=run_dir, resume=resume)


def metrics(run_dir: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """The records of a run's metrics; of one kind, such as train, where it is named."""
    records = map(json.loads, RunDir(run_dir).metrics.read_text().splitlines())
    return [record for record in records if kind in (None, record["kind"])]


def status(run_dir: Path) -> dict[str, Any]:
    """How a run stands; nothing where it has not begun."""
    path = RunDir(run_dir).status
    return json.loads(path.read_text()) if path.exists() else {}


def free_port() -> int:
    """A port of this machine that nobody listens on at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
