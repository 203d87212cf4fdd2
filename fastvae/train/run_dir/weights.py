"""The weights of a model: read from a checkpoint, written to a file, loaded into a model."""

from __future__ import annotations

import json
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor, nn

from fastvae._version import __version__
from fastvae.train.config import GENERATOR
from fastvae.train.run_dir.checkpoint import (
    Checkpoint,
    CheckpointError,
    newest_valid,
    read_checkpoint,
)
from fastvae.train.run_dir.files import replacing
from fastvae.train.run_dir.run_dir import BEST, RunDir, checkpoint_paths, step_of

METADATA = {"format": "pt", "fastvae_version": __version__}
"""Metadata of every safetensors file of weights; other libraries read the format."""
_ATTEMPTS = 20  # a running run may remove a checkpoint while it is read; then there is a newer one


def read_weights(run_dir: Path, step: int | None = None) -> tuple[int, dict[str, Tensor]]:
    """Read the weights of a run's newest valid checkpoint, or of one step; the averaged ones if the run has EMA.

    Without a step, and if the run keeps its best weights, they are the best so far. They are those of the evaluated
    model, not of a task's other models. The run may still be running.

    Returns:
        The step, and the tensors by name.

    Raises:
        ValueError: the checkpoint does not exist or is not valid.
    """
    root = RunDir(run_dir).checkpoints
    for _ in range(_ATTEMPTS):
        before = checkpoint_paths(root)
        checkpoint = _find(root, step)
        if checkpoint is not None:
            try:
                best_step = checkpoint.scalars["best_step"] if step is None else None
                copy = "averages" if best_step is None else BEST
                return checkpoint.step if best_step is None else best_step, _weights_of(checkpoint, copy)
            except Exception:
                if checkpoint.path.exists():
                    raise
        elif checkpoint_paths(root) == before:
            break
    which = "valid checkpoint" if step is None else f"checkpoint of step {step}"
    raise ValueError(f"{run_dir} has no {which}; `fastvae checkpoints {run_dir}` lists the checkpoints")


def _find(root: Path, step: int | None) -> Checkpoint | None:
    if step is None:
        return newest_valid(root, on_invalid=lambda error: None)
    for path in checkpoint_paths(root):
        if step_of(path) == step:
            try:
                return read_checkpoint(path)
            except CheckpointError:
                if path.exists():
                    raise
    return None


def _weights_of(checkpoint: Checkpoint, copy: str) -> dict[str, Tensor]:
    """Read the generator's weights, replaced by those of a copy where it has them."""
    from fastvae.distributed import read_whole  # imported here: a finished run is read without PyTorch's checkpoints

    kinds = (f"{GENERATOR}.model.", f"{GENERATOR}.{copy}.")
    tensors = read_whole(checkpoint.path, lambda name: name.startswith(kinds))
    model, copied = (
        {name.removeprefix(kind): tensor for name, tensor in tensors.items() if name.startswith(kind)} for kind in kinds
    )
    return model | copied


def sort_metadata(path: Path) -> None:
    """Sort the metadata in a safetensors file, so that equal weights are equal files.

    The library writes the entries in another order each time.
    """
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header = {"__metadata__": dict(sorted(header.pop("__metadata__").items())), **header}
        content = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(content) <= size, f"{path}: the header grew from {size} to {len(content)} bytes"
        file.seek(8)
        file.write(content.ljust(size))


def write_weights(path: Path, model: nn.Module) -> None:
    """Write a model's weights to a safetensors file atomically."""
    with replacing(path) as temporary:
        safetensors.torch.save_model(model, str(temporary), METADATA)
        sort_metadata(temporary)


def export_weights(run_dir: str | Path, to: Path, *, step: int | None = None) -> int:
    """Write the weights of a run's newest valid checkpoint, or of one step, to a safetensors file; returns the step.

    Raises:
        ValueError: the checkpoint does not exist or is not valid.
    """
    step, tensors = read_weights(Path(run_dir), step)
    with replacing(to) as temporary:
        safetensors.torch.save_file(tensors, str(temporary), METADATA)
        sort_metadata(temporary)
    return step


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Set a model's weights to those of a safetensors file: ``model.safetensors``, or a file of ``fastvae export``.

    Raises:
        ValueError: the file is not a safetensors file, or its tensors differ from the model's; nothing was changed.
    """
    try:
        tensors = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from None
    set_weights(model, tensors, str(path))


def set_weights(model: nn.Module, tensors: dict[str, Tensor], origin: str) -> None:
    """Set a model's weights to tensors by name; shared tensors may be given once.

    Raises:
        ValueError: names or shapes differ; nothing was changed.
    """
    own = model.state_dict(keep_vars=True)
    places = {name: id(tensor) for name, tensor in own.items()}
    given = {places[name] for name in tensors if name in places}
    wrong = [f"{name} is unknown" for name in sorted(tensors.keys() - own.keys())]
    wrong += [f"{name} is missing" for name in sorted(own) if places[name] not in given]
    wrong += [
        f"{name} is {list(tensors[name].shape)}, not {list(own[name].shape)}"
        for name in sorted(tensors.keys() & own.keys())
        if tensors[name].shape != own[name].shape
    ]
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise ValueError(f"{origin} does not fit the model: {'; '.join(wrong[:3])}{more}")
    model.load_state_dict(tensors, strict=False)
