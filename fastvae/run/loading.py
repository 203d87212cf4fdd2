"""Load a `LoadedRun` from a run directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastvae.data import build_data
from fastvae.models import build_model
from fastvae.plugins import load_plugins
from fastvae.run.config import read_config
from fastvae.run.loaded import LoadedRun
from fastvae.run.users_model import find_weights, load_users_model
from fastvae.train.run_dir.results import read_data_state


def load(
    directory: str | Path,
    *,
    model: nn.Module | None = None,
    data: Any = None,
    device: str | torch.device = "cpu",
    plugins: Sequence[str] = (),
) -> LoadedRun:
    """Load a run with the weights that its evaluation used, or those of its newest checkpoint if unfinished.

    A run on pixels or plain numbers does not need its training files, unless its examples are read.

    Args:
        directory: the run directory.
        model: for a run of ``fastvae.train(model, data)``: a module of the same structure. Its weights are set to
            those of the run, and it is moved to the device.
        data: for the same run: its data, as they were given to ``fastvae.train``. None works without examples, as
            for sampling, if the run can describe its data.
        device: where the model is.
        plugins: modules with the run's own kinds, families or likelihoods, which are imported first; see
            `fastvae.plugins`.

    Raises:
        ValueError: the directory is not a run directory, has no weights yet, or needs a plugin that is not loaded; or
            the model or the data are not those of the run.
    """
    load_plugins(plugins)
    directory = Path(directory)
    if model is not None:
        return load_users_model(directory, model, data, torch.device(device))
    if data is not None:
        raise ValueError("load: data are for a run of a user's model; give the model too: fastvae.load(..., model=...)")
    config = read_config(directory)
    weights = find_weights(directory)
    device = torch.device(device)
    data = build_data(config.data, config.seed, read_data_state(directory))
    model = build_model(config.model, data.model_inputs, seed=config.seed)
    weights(model)
    model.to(device).eval()
    return LoadedRun(directory=directory, config=config, data=data, model=model, device=device)
