"""A run directory goes on with the run that it holds, or says what differs."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from fastvae.train.run_dir.checkpoint import Checkpoint

# Settings that change how a run is carried out or watched, not what it computes. More steps continue a run: the
# schedules then span the new number of steps.
_FREE = {
    "run_dir",
    "data.dir",
    *(
        f"train.{name}"
        for name in (
            "steps",
            "accumulation",
            "compile",
            "device",
            "strategy",
            "check_replicas",
            "ddp.bucket_mib",
            "ddp.static_graph",
            "fsdp.reshard_after_forward",
            "fsdp.cpu_offload",
            "deepspeed.stage",
            "deepspeed.offload_optimizer",
            "deepspeed.offload_parameters",
            "deepspeed.file",
            "timeout",
            "log_every",
            "eval_every",
            "checkpoint_every",
            "keep_checkpoints",
            "keep_every",
            "save_in_background",
            "on_save_error",
            "grace_seconds",
            "eval_batch_size",
            "final_samples",
            "guard.stop_after",
            "collapse.min_active",
            "collapse.evaluations",
            "debug_numerics",
        )
    ),
}


def plain(value: Any) -> Any:
    """The value as YAML and JSON have it: mappings, lists, numbers, text, None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return value.name
    return str(value) if isinstance(value, Path) else value


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flatten(item, f"{prefix}.{key}" if prefix else str(key))
    return flat


def check_same_run(checkpoint: Checkpoint, resolved: Mapping[str, Any], run_dir: Path) -> None:
    """Refuse to go on from a checkpoint of another run.

    Raises:
        ValueError: names every setting that differs, with both values, and the remedy.
    """
    saved, asked = _flatten(checkpoint.scalars["config"]), _flatten(resolved)
    differences = [
        f"{name} was {saved.get(name)!r}, now {asked.get(name)!r}"
        for name in sorted(saved.keys() | asked.keys())
        if name not in _FREE and saved.get(name) != asked.get(name)
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
