"""Resume: check that a run directory contains the same run."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeAlias

from fastvae.data import DataConfig
from fastvae.models import ModelConfig
from fastvae.own_settings import extended
from fastvae.plugins import why_other_plugins
from fastvae.settings import Settings, settings_without_effect
from fastvae.train.config import TrainConfig
from fastvae.train.run_dir.checkpoint import Checkpoint
from fastvae.train.run_dir.lock import is_earlier_start
from fastvae.train.run_dir.record import read_record

Resume: TypeAlias = bool | Literal["must"]

# These may differ in a resumed run. More steps continue a run: the schedules then span the new number.
_CONFIGS: dict[str, type[Settings]] = {"model": ModelConfig, "data": DataConfig, "train": TrainConfig}
_ALWAYS_FREE = {"module.file"}  # the file of a user's model may be moved; its digest is compared


def plain(value: Any) -> Any:
    """Convert a value to plain YAML or JSON types: mappings, lists, numbers, text, None.

    Paths become absolute, so that a run can be resumed and loaded from another working directory.
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
    """Check that the run directory has this format and the same plugins, and is empty if a new run is required.

    Raises:
        ValueError: it does not; the message states its contents and the remedy.
    """
    if resume not in (True, False, "must"):
        raise ValueError(f"train: resume must be True, False or 'must', got {resume!r}")
    record = read_record(run_dir)
    if record is not None and resume is False and not is_earlier_start(record.get("launch")):
        raise ValueError(
            f"train: {run_dir} contains a run, and resume=False starts a new one; choose another run_dir, remove that "
            "one, or continue it with resume=True"
        )
    need, differ = why_other_plugins(run_dir, record)
    if need is not None:
        raise ValueError(f"train: {need}")
    if differ is not None:
        raise ValueError(f"train: {differ}; restore those files, or choose another --run-dir")


def check_same_run(checkpoint: Checkpoint, resolved: Mapping[str, Any], run_dir: Path, num_steps: int) -> None:
    """Check that a checkpoint belongs to a run with the same settings, of at most that many steps.

    Raises:
        ValueError: settings differ; the message names each with both values.
    """
    without_effect = _ALWAYS_FREE | {
        name for prefix, kind in _CONFIGS.items() for name in settings_without_effect(extended(kind), prefix)
    }
    saved, asked = _flatten(checkpoint.scalars["config"]), _flatten(resolved)
    _check_same_task(saved, asked, run_dir)
    differences = [
        f"{name} was {saved.get(name)!r}, now {asked.get(name)!r}"
        for name in sorted(saved.keys() | asked.keys())
        if name not in without_effect and saved.get(name) != asked.get(name)
    ]
    if differences:
        raise ValueError(
            f"train: {run_dir} contains a run with other settings ({'; '.join(differences)}); "
            "choose another --run-dir, remove that one, or use the same settings"
        )
    if checkpoint.step > num_steps:
        raise ValueError(
            f"train: {run_dir} is at step {checkpoint.step}, past the {num_steps} requested steps; "
            "increase --train.steps or --train.epochs, or choose another --run-dir"
        )


def _check_same_task(saved: Mapping[str, Any], asked: Mapping[str, Any], run_dir: Path) -> None:
    """Check first that the task is the same: the settings of its other models differ with it.

    Raises:
        ValueError: it is another one.
    """
    was, now = ((flat.get("task"), flat.get("train.task")) for flat in (saved, asked))
    if was != now:
        old, new = (f"task={own}(...)" if own else f"the task {name!r}" for own, name in (was, now))
        raise ValueError(
            f"train: {run_dir} contains a run with another task (was {old}, now {new}); give the same task, or choose"
            " another run directory"
        )
