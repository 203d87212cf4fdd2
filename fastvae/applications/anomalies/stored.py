"""The reference of a run as a file in its directory, which belongs to the weights that it was made with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from fastvae.applications.anomalies.rarity import Marginals, Tail
from fastvae.applications.anomalies.reference import Reference, Statistic
from fastvae.data.table.covariance import Covariance
from fastvae.train.run_dir.files import write_atomic
from fastvae.train.run_dir.run_dir import RunDir

_WEIGHTS = "weights_sha256"


def write_reference(directory: Path, reference: Reference) -> None:
    """Write the reference of a finished run."""
    paths = RunDir(directory)
    content = safetensors.torch.save(_tensors(reference, "reference"), metadata={_WEIGHTS: _digest(paths.weights)})
    write_atomic(paths.anomalies, content)


def read_reference(directory: Path) -> Reference | None:
    """The reference of a finished run; None if there is none for its weights.

    Raises:
        ValueError: the file is not valid.
    """
    paths = RunDir(directory)
    if not paths.anomalies.is_file() or not paths.weights.is_file():
        return None
    try:
        with safetensors.safe_open(paths.anomalies, framework="pt") as file:
            if (file.metadata() or {}).get(_WEIGHTS) != _digest(paths.weights):
                return None
            return _reference({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118  # not a mapping
    except (safetensors.SafetensorError, KeyError, TypeError) as error:
        raise ValueError(
            f"{paths.anomalies} is not a reference of anomaly scores ({error}); delete it, and it is made again"
        ) from None


def _tensors(value: Any, name: str) -> dict[str, Tensor]:
    """The tensors of a part of the reference by name; those of its fields have names ``part.field``."""
    if isinstance(value, Tensor):
        return {name: value.clone(memory_format=torch.contiguous_format)}
    if isinstance(value, tuple):
        return {name: torch.tensor(value)}
    return {
        key: tensor for field, each in vars(value).items() for key, tensor in _tensors(each, f"{name}.{field}").items()
    }


def _reference(tensors: Mapping[str, Tensor]) -> Reference:
    """The inverse of `_tensors`; TypeError or KeyError if one is missing."""

    def fields(part: str) -> dict[str, Tensor]:
        return {key.removeprefix(f"{part}."): tensor for key, tensor in tensors.items() if key.startswith(f"{part}.")}

    def statistic(part: str) -> Statistic:
        return Statistic(tensors[f"{part}.medians"], Tail(**fields(f"{part}.tail")))

    return Reference(
        elbo=statistic("reference.elbo"),
        distance=statistic("reference.distance"),
        rarity=statistic("reference.rarity"),
        covariance=Covariance(**fields("reference.covariance")),
        marginals=Marginals(**fields("reference.marginals")),
        widths=tuple(tensors["reference.widths"].tolist()),
        train_totals=tensors["reference.train_totals"],
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
