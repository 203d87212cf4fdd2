"""Start a run from its configuration: data, model, training."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from torch import nn

from fastvae.data import Data, build_data
from fastvae.models import build_model
from fastvae.run.config import RunConfig, resolve
from fastvae.train import load_weights

if TYPE_CHECKING:
    from fastvae.train import Run


def start(config: RunConfig) -> Run:
    """Build data and model of ``config`` and train; called by all ranks. Implements ``fastvae train``."""
    from fastvae.distributed import world_from_environment  # imported here: not needed to load a finished run
    from fastvae.train import train

    config = resolve(config)
    world_from_environment("cpu")  # a wrong environment of this process is reported before the data are read
    data = build_data(config.data, config.seed)
    description = {name: value for name, value in asdict(config).items() if name not in ("train", "run_dir")}
    return train(
        build_run_model(config, data),
        data,
        config.train,
        run_dir=config.directory,
        seed=config.seed,
        description=description,
    )


def build_run_model(config: RunConfig, data: Data) -> nn.Module:
    """Build the model with initial weights from the configured file, or new ones whose output is the mean example."""
    model = build_model(config.model, data.model_inputs, seed=config.seed, mean=data.train_mean)
    if config.weights is not None:
        load_weights(model, config.weights)
    return model
