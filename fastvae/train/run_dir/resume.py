"""A run directory goes on with the run that it holds, or says what differs."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeAlias

from fastvae.data import DataConfig
from fastvae.models import ModelConfig
from fastvae.settings import settings_without_effect
from fastvae.train.config import TrainConfig
from fastvae.train.run_dir.checkpoint import Checkpoint
from fastvae.train.run_dir.lock import is_earlier_start
from fastvae.train.run_dir.record import read_record

Resume: TypeAlias = bool | Literal["must"]

# A stopped run may go on with other values of these. More steps continue a run: the schedules then span the new number.
_CONFIGS = {"model": ModelConfig, "data": DataConfig, "train": TrainConfig}
_WITHOUT_EFFECT = {name for prefix, kind in _CONFIGS.items() for name in settings_without_effect(kind, prefix)}
_WITHOUT_EFFECT.add("module.file")  # the file of a user's model may be moved; its digest is compared


def plain(value: Any) -> Any:
    """The value as YAML and JSON have it: mappings, lists, numbers, text, None.

    Paths become absolute, so that a run can go on and be loaded from another working directory.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return value.name
    return str(value.absolute()) if isinstance(value, Path) else value


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flatten(item, f"{prefix}.{key}" if prefix else str(key))
    return flat


def check_resume(run_dir: Path, resume: Resume) -> None:
    """Refuse a directory that another version of fastvae wrote, or that holds a run where a new one must begin.

    Raises:
        ValueError: says what the directory holds, and the remedy.
    """
    if resume not in (True, False, "must"):
        raise ValueError(f"train: resume must be True, False or 'must', got {resume!r}")
    record = read_record(run_dir)
    if record is not None and resume is False and not is_earlier_start(record.get("launch")):
        raise ValueError(
            f"train: {run_dir} holds a run, and resume=False begins a new one; choose another run_dir, remove that "
            "one, or go on with it by resume=True"
        )


def check_same_run(checkpoint: Checkpoint, resolved: Mapping[str, Any], run_dir: Path) -> None:
    """Refuse to go on from a checkpoint of another run.

    Raises:
        ValueError: names every setting that differs, with both values, and the remedy.
    """
    saved, asked = _flatten(checkpoint.scalars["config"]), _flatten(resolved)
    differences = [
        f"{name} was {saved.get(name)!r}, now {asked.get(name)!r}"
        for name in sorted(saved.keys() | asked.keys())
        if name not in _WITHOUT_EFFECT and saved.get(name) != asked.get(name)
    ]
    if differences:
        raise ValueError(
            f"train: {run_dir} holds a run with other settings ({'; '.join(differences)}); "
            "choose another --run-dir, remove that one, or ask for the same settings"
        )
    if checkpoint.step > asked["train.steps"]:
        raise ValueError(
            f"train: {run_dir} is at step {checkpoint.step}, past the {asked['train.steps']} steps asked for; "
            "ask for more with --train.steps, or choose another --run-dir"
        )
