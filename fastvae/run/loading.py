"""Load a `LoadedRun` from a run directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from fastvae.data import build_data
from fastvae.models import build_model
from fastvae.plugins import load_plugins
from fastvae.run.config import read_config
from fastvae.run.loaded import LoadedRun
from fastvae.train.run_dir.results import read_data_state
from fastvae.train.run_dir.run_dir import RunDir
from fastvae.train.run_dir.weights import load_weights, read_weights, set_weights


def load(directory: str | Path, *, device: str | torch.device = "cpu", plugins: Sequence[str] = ()) -> LoadedRun:
    """Load a run with the weights that its evaluation used, or those of its newest checkpoint if unfinished.

    A run on pixels or plain numbers does not need its training files, unless its examples are read.

    Args:
        directory: the run directory.
        device: where the model is.
        plugins: modules with the run's own kinds, families or likelihoods, which are imported first; see
            `fastvae.plugins`.

    Raises:
        ValueError: the directory is not a run directory, has no weights yet, or needs a plugin that is not loaded.
    """
    load_plugins(plugins)
    directory = Path(directory)
    config = read_config(directory)
    finished = RunDir(directory).weights
    tensors = None if finished.is_file() else read_weights(directory)[1]
    device = torch.device(device)
    data = build_data(config.data, config.seed, read_data_state(directory))
    model = build_model(config.model, data.model_inputs, seed=config.seed)
    if tensors is None:
        load_weights(model, finished)
    else:
        set_weights(model, tensors, str(directory))
    model.to(device).eval()
    return LoadedRun(directory=directory, config=config, data=data, model=model, device=device)
