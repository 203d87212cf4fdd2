"""The configuration of DeepSpeed: the options of the run merged with the user's JSON file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastvae.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class DeepSpeedConfig(Settings):
    """Settings of strategy deepspeed."""

    stage: int | None = setting(None, changes_result=False)
    """ZeRO stage: 0 shards nothing, 1 the optimizer state, 2 also gradients, 3 also weights. None: the stage of the
    file, or 2."""
    offload_optimizer: bool = setting(False, changes_result=False)
    """Keep the optimizer state in host memory, and update it there (stages 1 to 3)."""
    offload_parameters: bool = setting(False, changes_result=False)
    """Keep the shards of the weights in host memory (stage 3)."""
    file: Path | None = setting(None, changes_result=False)
    """A DeepSpeed JSON file with further settings; a setting that contradicts an option of the run is an error."""

    def __post_init__(self) -> None:
        if self.stage is not None and self.stage not in (0, 1, 2, 3):
            raise ValueError(f"train.deepspeed.stage must be 0, 1, 2 or 3, got {self.stage}")


def engine_settings(
    config: DeepSpeedConfig, *, precision: str, accumulation: int, clip: float | None
) -> dict[str, Any]:
    """Return the configuration of DeepSpeed: the options of the run, and the user's file.

    Raises:
        ValueError: the file is not a JSON object or contradicts options of the run; the error names each conflict.
    """
    given = _read(config.file) if config.file is not None else {}
    zero = given.get("zero_optimization", {})
    if not isinstance(zero, dict):
        raise ValueError(f"train.deepspeed.file {config.file}: zero_optimization must be an object, got {zero!r}")
    stage = config.stage if config.stage is not None else zero.get("stage", 2)
    if stage not in (0, 1, 2, 3):
        raise ValueError(f"train.deepspeed.file {config.file}: stage must be 0, 1, 2 or 3, got {stage!r}")
    ours: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,  # only a counter: the loader decides how many examples a rank gets
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": clip or 0.0,  # always set: DeepSpeed's default is 1.0
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "torch_autocast": {"enabled": precision == "bf16", "dtype": "bfloat16"},
        "zero_optimization": {"stage": stage},
    }
    if config.offload_optimizer:
        ours["zero_optimization"]["offload_optimizer"] = {"device": "cpu"}
    if config.offload_parameters:
        ours["zero_optimization"]["offload_param"] = {"device": "cpu"}
    conflicts = list(_conflicts(ours, given))
    conflicts += [
        f"{name} is set by options of --train" for name in ("optimizer", "scheduler", "fp16", "bf16") if name in given
    ]
    if conflicts:
        raise ValueError(
            f"train.deepspeed.file {config.file} contradicts this run's options: {'; '.join(conflicts)}; "
            'remove them from the file (or write "auto"), or change the options'
        )
    return _merge(ours, given)


def _read(path: Path) -> dict[str, Any]:
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"train.deepspeed.file {path}: the file does not exist") from None
    except ValueError as error:
        raise ValueError(f"train.deepspeed.file {path} is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise ValueError(f"train.deepspeed.file {path} must contain a JSON object, got {type(given).__name__}")
    return given


def _conflicts(ours: Mapping[str, Any], given: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name in sorted(ours.keys() & given.keys()):
        if isinstance(ours[name], Mapping) and isinstance(given[name], Mapping):
            yield from _conflicts(ours[name], given[name], f"{prefix}{name}.")
        elif given[name] not in ("auto", ours[name]):
            yield f"{prefix}{name} is {given[name]!r} in the file and {ours[name]!r} in the run"


def _merge(ours: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(given)
    for name, value in ours.items():
        nested = isinstance(value, Mapping) and isinstance(given.get(name), Mapping)
        merged[name] = _merge(value, given[name]) if nested else value
    return merged
