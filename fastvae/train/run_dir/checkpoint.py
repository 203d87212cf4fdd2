"""Checkpoints are directories: safetensors for tensors, JSON for scalars, and a manifest of sizes and checksums.

A checkpoint is written under a temporary name, synced, renamed, and its parent folder is synced, so a directory with a
checkpoint's name is complete; the manifest detects later damage. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors

from fastvae._version import __version__
from fastvae.train.run_dir.files import dump_json, fsync_path
from fastvae.train.run_dir.run_dir import checkpoint_name, checkpoint_paths, step_of

FORMAT = 2
MANIFEST = "manifest.json"
STATE = "state.json"
_MANIFEST_KEYS = {"fastvae", "files", "format", "sha256", "step", "time"}
_MAX_JSON_BYTES = 64 << 20


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message states the reason."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One valid checkpoint on disk."""

    path: Path
    step: int
    size_bytes: int
    saved_at: float  # seconds since 1970
    scalars: dict[str, Any]  # counters, data position, seed, kl_weight, lr, config, versions


def temporary_of(root: Path, step: int) -> Path:
    """Return the temporary path at which the checkpoint of a step is written."""
    return root / f".{checkpoint_name(step)}.tmp"


def sweep(root: Path) -> None:
    """Remove the remains of an interrupted save or removal."""
    for path in root.glob(".step_*.*"):
        shutil.rmtree(path)


def publish(temporary: Path, scalars: Mapping[str, Any]) -> Path:
    """Write the manifest and rename the directory: from then on it is the newest checkpoint.

    Raises:
        OSError: a file operation failed; no checkpoint was added or removed.
    """
    step = scalars["step"]
    (temporary / STATE).write_text(dump_json(scalars), encoding="utf-8")
    files = {path.name: _describe(path) for path in sorted(temporary.iterdir())}
    manifest = {"fastvae": __version__, "files": files, "format": FORMAT, "step": step, "time": time.time()}
    (temporary / MANIFEST).write_text(dump_json({**manifest, "sha256": _digest(manifest)}), encoding="utf-8")
    for path in temporary.iterdir():
        fsync_path(path)
    fsync_path(temporary)
    final = temporary.with_name(checkpoint_name(step))
    if final.exists():  # only an invalid one can exist: a valid one would have been resumed from
        remove(final)
    temporary.rename(final)
    fsync_path(final.parent)
    return final


def remove(path: Path) -> None:
    """Remove a checkpoint; it is renamed first, so that a partly removed one has no checkpoint's name."""
    obsolete = path.with_name(f".{path.name}.old")
    path.rename(obsolete)
    shutil.rmtree(obsolete)


def prune(root: Path, *, keep: int, keep_every: int | None) -> None:
    """Keep the newest ``keep`` checkpoints, those at multiples of ``keep_every`` steps, and the newest valid one;
    remove the others.

    The newest one is verified again, on the disk, before any other is removed.
    """
    paths = checkpoint_paths(root)
    obsolete = [path for path in paths[keep:] if keep_every is None or step_of(path) % keep_every]
    if not obsolete:
        return
    survivor = newest_valid(root, on_invalid=lambda error: None)
    for path in obsolete:
        if survivor is not None and path != survivor.path:
            remove(path)


def newest_valid(root: Path, *, on_invalid: Callable[[CheckpointError], None]) -> Checkpoint | None:
    """Return the newest valid checkpoint; ``on_invalid`` is called with the error of each newer one."""
    for path in checkpoint_paths(root):
        try:
            return read_checkpoint(path)
        except CheckpointError as error:
            on_invalid(error)
    return None


def read_checkpoint(path: Path, *, checksums: bool = True) -> Checkpoint:
    """Read the step and the scalars of a checkpoint after checking its files against its manifest.

    Args:
        path: the directory.
        checksums: whether to read every byte and compare checksums; if False, compare names, sizes and headers only.

    Raises:
        CheckpointError: the checkpoint is not valid; the message names the file and the rule.
    """
    manifest = _read_manifest(path)
    try:
        found = {entry.name for entry in path.iterdir()} - {MANIFEST}
        _require(
            found == set(manifest["files"]), path, f"files must be {sorted(manifest['files'])}, got {sorted(found)}"
        )
        for name, expected in manifest["files"].items():
            _check_file(path / name, expected, checksums)
        scalars = _read_json(path / STATE)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    is_ours = isinstance(scalars.get("config"), dict) and scalars.get("step") == manifest["step"]
    _require(is_ours, path, f"{STATE} must contain the configuration, and the step of {MANIFEST}")
    size = sum(entry["bytes"] for entry in manifest["files"].values())
    return Checkpoint(path=path, step=manifest["step"], size_bytes=size, saved_at=manifest["time"], scalars=scalars)


def _read_manifest(path: Path) -> dict[str, Any]:
    _require(path.is_dir() and not path.is_symlink(), path, "must be a directory, and not a link")
    manifest = _read_json(path / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: format {manifest.get('format')!r}, written by fastvae {manifest.get('fastvae', '?')}; this "
            f"version, {__version__}, reads format {FORMAT} only"
        )
    intact = set(manifest) == _MANIFEST_KEYS and manifest.pop("sha256") == _digest(manifest)
    _require(intact, path, f"{MANIFEST} does not match its own checksum")
    numbers = type(manifest["step"]) is int and type(manifest["time"]) is float
    _require(numbers, path, f"{MANIFEST} must have a whole step and a time")
    _require(path.name == checkpoint_name(manifest["step"]), path, f"contains step {manifest['step']}")
    _require(isinstance(manifest["files"], dict), path, f"{MANIFEST} must list files by name")
    strange = [name for name, entry in manifest["files"].items() if not _is_entry(name, entry)]
    _require(not strange, path, f"{MANIFEST} names files that do not belong in a checkpoint: {strange}")
    return manifest


def _read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; its text must equal what this version writes, byte for byte."""
    try:
        _require(stat.S_ISREG(path.lstat().st_mode), path, "must be a regular file")
        _require(path.stat().st_size <= _MAX_JSON_BYTES, path, f"must not be larger than {_MAX_JSON_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
        value = json.loads(text)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from None
    _require(isinstance(value, dict) and text == dump_json(value), path, "is not in the format of this version")
    return value


def _check_file(path: Path, expected: Mapping[str, Any], checksums: bool) -> None:
    status = path.lstat()
    _require(stat.S_ISREG(status.st_mode), path, "must be a regular file")
    wrong = "does not have the size and checksum of the manifest"
    _require(status.st_size == expected["bytes"] and (not checksums or _describe(path) == expected), path, wrong)
    if path.suffix == ".safetensors":
        try:
            with safetensors.safe_open(path, "numpy"):  # rejects headers that are too large, overlap or exceed the file
                pass
        except safetensors.SafetensorError as error:
            raise CheckpointError(f"{path}: is not a safetensors file ({error})") from None


def _is_entry(name: str, entry: Any) -> bool:
    is_tensors = name.endswith(".safetensors") and Path(name).name == name and not name.startswith(".")
    is_described = isinstance(entry, dict) and set(entry) == {"bytes", "sha256"} and type(entry["bytes"]) is int
    return is_described and (name == STATE or is_tensors)


def _require(holds: bool, path: Path, otherwise: str) -> None:
    if not holds:
        raise CheckpointError(f"{path}: {otherwise}")


def _describe(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(dump_json(value).encode()).hexdigest()
