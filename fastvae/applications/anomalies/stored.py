"""The reference of a run as a file in its directory, which belongs to the weights that it was made with."""

from __future__ import annotations

import hashlib
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from fastvae.applications.anomalies.rarity import Marginals, Tail
from fastvae.applications.anomalies.reference import Reference
from fastvae.data.table.covariance import Covariance
from fastvae.train.run_dir.files import write_atomic
from fastvae.train.run_dir.run_dir import RunDir

_WEIGHTS = "weights_sha256"


def write_reference(directory: Path, reference: Reference) -> None:
    """Write the reference of a finished run."""
    paths = RunDir(directory)
    content = safetensors.torch.save(_tensors(reference), metadata={_WEIGHTS: _digest(paths.weights)})
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


def _tensors(reference: Reference) -> dict[str, Tensor]:
    """The tensors of the reference; those of its parts have names ``part.name``."""
    found = {}
    for name, value in vars(reference).items():
        own = torch.tensor(value) if isinstance(value, tuple) else value
        parts = {name: own} if isinstance(own, Tensor) else {f"{name}.{key}": t for key, t in vars(own).items()}
        found.update({key: tensor.clone(memory_format=torch.contiguous_format) for key, tensor in parts.items()})
    return found


def _reference(tensors: dict[str, Tensor]) -> Reference:
    """The inverse of `_tensors`; TypeError or KeyError if one is missing."""

    def part(name: str) -> dict[str, Tensor]:
        return {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}

    return Reference(
        medians=tensors["medians"],
        elbo=Tail(**part("elbo")),
        distance=Tail(**part("distance")),
        rarity=Tail(**part("rarity")),
        covariance=Covariance(**part("covariance")),
        marginals=Marginals(**part("marginals")),
        widths=tuple(tensors["widths"].tolist()),
        train_totals=tensors["train_totals"],
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
