"""Checkpoints are directories: safetensors for tensors, JSON for scalars, and a manifest of sizes and checksums.

A checkpoint is written beside its final name, synced, renamed, and its parent synced, so one that has its name is
whole; the manifest catches what happens to it later. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastvae.distributed import Strategy, World
from fastvae.train.files import dump_json, fsync_path
from fastvae.train.state import TrainState

FORMAT = 1
MANIFEST = "manifest.json"
STATE = "state.json"


class CheckpointError(ValueError):
    """A checkpoint that cannot be used, and why."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One checkpoint on disk, its manifest verified."""

    path: Path
    step: int
    scalars: dict[str, Any]  # step, skipped_steps, config, versions


def save_checkpoint(root: Path, strategy: Strategy, state: TrainState, scalars: Mapping[str, Any], keep: int) -> Path:
    """Save weights, optimizer, average and scalars as ``root/step_<N>``; all ranks together.

    Raises:
        OSError: the disk refused; the checkpoints that were there are as they were.
    """
    final = root / f"step_{state.step:08d}"
    temporary = root / f".{final.name}.tmp"
    if strategy.world.is_main:
        root.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
    strategy.world.barrier()
    strategy.save(temporary, state.ema)
    strategy.world.barrier()
    if strategy.world.is_main:
        counters = {**state.counters(), "torch": str(torch.__version__)}
        (temporary / STATE).write_text(dump_json({**scalars, **counters}), encoding="utf-8")
        _seal(temporary)
        if final.exists():  # only one that did not verify stands here: a valid one of this step would have been resumed
            shutil.rmtree(final)
        temporary.rename(final)
        fsync_path(root)
        for old in sorted(root.glob("step_*"))[:-keep]:
            shutil.rmtree(old)
    strategy.world.barrier()
    return final


def newest_checkpoint(root: Path, world: World) -> Checkpoint | None:
    """The newest checkpoint that verifies, the same on all ranks; one that does not is named and passed over."""
    chosen: str | None = None
    if world.is_main:
        for path in sorted(root.glob("step_*"), reverse=True):
            try:
                verify(path)
            except CheckpointError as error:
                warnings.warn(f"checkpoint passed over: {error}", stacklevel=2)
                continue
            chosen = str(path)
            break
    chosen = world.broadcast_text(chosen)
    if chosen is None:
        return None
    path = Path(chosen)
    scalars = json.loads((path / STATE).read_text(encoding="utf-8"))
    return Checkpoint(path=path, step=scalars["step"], scalars=scalars)


def load_checkpoint(checkpoint: Checkpoint, strategy: Strategy, ema: dict[str, Tensor]) -> TrainState:
    """Set model, optimizer and the tensors of ``ema`` to what the checkpoint holds; all ranks together."""
    strategy.load(checkpoint.path, ema)
    return TrainState.start(strategy.world.device, ema, checkpoint.scalars)


def verify(path: Path) -> None:
    """Check every file of a checkpoint against its manifest.

    Raises:
        CheckpointError: the rule, the file and what was found.
    """
    try:
        text = (path / MANIFEST).read_text(encoding="utf-8")
        manifest = json.loads(text)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: {MANIFEST} cannot be read ({error})") from None
    is_ours = isinstance(manifest, dict) and set(manifest) == {"format", "files"} and manifest["format"] == FORMAT
    if not is_ours or text != dump_json(manifest):
        raise CheckpointError(f"{path}: {MANIFEST} must be of format {FORMAT}, as this version writes it")
    found = {entry.name for entry in path.iterdir()} - {MANIFEST}
    if found != set(manifest["files"]):
        raise CheckpointError(f"{path}: files must be {sorted(manifest['files'])}, found {sorted(found)}")
    for name, expected in manifest["files"].items():
        if _describe(path / name) != expected:
            raise CheckpointError(f"{path}: {name} does not have the size and checksum of the manifest")


def _describe(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _seal(directory: Path) -> None:
    """Write the manifest and put every file, then the directory, on the disk."""
    files = {path.name: _describe(path) for path in sorted(directory.iterdir())}
    (directory / MANIFEST).write_text(dump_json({"format": FORMAT, "files": files}), encoding="utf-8")
    for path in directory.iterdir():
        fsync_path(path)
    fsync_path(directory)
