"""A finished run of a user's model: its weights are loaded into a module that the user builds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastvae.data import Data, as_data
from fastvae.data.restore import restore
from fastvae.run.config import read_users_config
from fastvae.run.loaded import LoadedRun
from fastvae.train.config import GENERATOR
from fastvae.train.run_dir.identity import data_difference, identify
from fastvae.train.run_dir.record import read_record
from fastvae.train.run_dir.results import read_data_state
from fastvae.train.run_dir.run_dir import RunDir
from fastvae.train.run_dir.weights import load_weights, read_weights, set_weights

_NOT_KEPT = "they were given from Python, and a run does not store them; load it by fastvae.load(..., model=, data=)"


def load_users_model(directory: Path, model: nn.Module, data: Any, device: torch.device) -> LoadedRun:
    """A run of `fastvae.train` with its weights in the user's module; see `fastvae.load`.

    Raises:
        ValueError: the directory contains no run or no weights yet, or the model or the data are not those of the run.
    """
    from fastvae.train.contract import complete  # imported here: other runs are loaded without the training step

    record = read_record(directory)
    config = read_users_config(directory)
    weights = find_weights(directory)
    found = _data_of(directory, data)
    if data is not None:
        complete(model, found, seed=config.seed)
        belongs_to = identify({GENERATOR: model}, found)
        _check_same(directory, record or {}, belongs_to)
    weights(model)
    model.to(device).eval()
    return LoadedRun(directory=directory, config=config, data=found, model=model, device=device)


def find_weights(directory: Path) -> Callable[[nn.Module], None]:
    """A function that sets the weights of a model to those of a run: of its evaluation, or of its newest checkpoint.

    Raises:
        ValueError: the run has no weights yet.
    """
    finished = RunDir(directory).weights
    if finished.is_file():
        return partial(load_weights, path=finished)
    return partial(set_weights, tensors=read_weights(directory)[1], origin=str(directory))


def _data_of(directory: Path, data: Any) -> Data:
    if data is not None:
        return as_data(data)
    restored = restore(read_data_state(directory), _NOT_KEPT)
    if restored is None:
        raise ValueError(
            f"load: {directory} has data with a preprocessing of the user's, which a run cannot describe; give them:"
            " fastvae.load(..., model=..., data=...)"
        )
    return restored


def _check_same(directory: Path, record: dict[str, Any], found: dict[str, Any]) -> None:
    """Check that data and model are those that the run was trained with.

    Raises:
        ValueError: names the first difference.
    """
    if record.get("data") != found["data"]:
        difference = data_difference(record.get("data"), found["data"])
        raise ValueError(
            f"load: the data must be those of the run {directory}: {difference};"
            " give those, and other examples to the methods of the loaded run"
        )
    was = [line for line in record.get("model") or [] if line.startswith(f"{GENERATOR}: ")]
    now = found["model"]
    old, new = ([line for line in one if line not in other] for one, other in ((was, now), (now, was)))
    if old or new:
        raise ValueError(
            f"load: the model must have the structure of the run's: was {old[0] if old else 'without'}, now"
            f" {new[0] if new else 'without'}, {len(old) + len(new)} differences in all; build it in the same way"
        )
