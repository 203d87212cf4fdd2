"""Which settings may change when a run is resumed, and which require a new run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fastvae.recipes import RECIPES
from fastvae.settings import Settings, setting, settings_without_effect
from fastvae.train.run_dir.checkpoint import Checkpoint
from fastvae.train.run_dir.resume import check_same_run, plain

RESOLVED = {**plain(dataclasses.asdict(RECIPES["digits"]())), "run_dir": None}
WITHOUT_EFFECT = """
data.dir data.path data.test_path data.validation_path data.download data.max_gib data.interactions.titles
data.workers data.prefetch
train.epochs
train.steps train.accumulation train.compile train.capture train.matmul train.device train.strategy train.timeout
train.check_replicas train.ddp.bucket_mib train.ddp.static_graph train.fsdp.reshard_after_forward train.fsdp.cpu_offload
train.deepspeed.stage train.deepspeed.offload_optimizer train.deepspeed.offload_parameters train.deepspeed.file
train.log_every train.eval_every train.eval_batch_size train.final_samples
train.checkpoint_every train.keep_checkpoints train.keep_every train.save_in_background train.on_save_error
train.grace_seconds train.guard.stop_after train.collapse.min_active train.collapse.evaluations train.debug_numerics
train.progress train.pictures train.pictures_every train.loggers
train.early_stopping.patience train.early_stopping.min_delta
""".split()


def leaves(value: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, item in value.items():
        if isinstance(item, Mapping):
            yield from leaves(item, f"{prefix}{name}.")
        else:
            yield prefix + name


def with_other(name: str) -> dict[str, Any]:
    """The settings with another value for one of them."""
    first, _, rest = name.partition(".")

    def changed(value: Any, path: str) -> Any:
        if not path:
            return ["another value", value]
        head, _, tail = path.partition(".")
        return {**value, head: changed(value[head], tail)}

    return {**RESOLVED, first: changed(RESOLVED[first], rest)}


@dataclass(frozen=True)
class Inner(Settings):
    new: int = 1
    how_often: int = setting(2, changes_result=False)


@dataclass(frozen=True)
class Outer(Settings):
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None
    kept: float = setting(0.5, changes_result=True)


@pytest.mark.parametrize("name", sorted(set(leaves(RESOLVED)) - {"run_dir", "recipe"}))
def test_every_setting_is_refused_or_has_no_effect(name: str) -> None:
    checkpoint = Checkpoint(path=Path("x"), step=1, size_bytes=0, saved_at=0.0, scalars={"config": RESOLVED})
    if name == "train.task":  # its name comes before all other settings
        with pytest.raises(ValueError, match="a run with another task"):
            check_same_run(checkpoint, with_other(name), Path("run"), 1000)
    elif name in WITHOUT_EFFECT:
        check_same_run(checkpoint, with_other(name), Path("run"), 1000)
    else:
        with pytest.raises(ValueError, match=rf"{name} was .*, now .*choose another --run-dir"):
            check_same_run(checkpoint, with_other(name), Path("run"), 1000)


def test_a_new_field_changes_the_result_by_default() -> None:
    assert Outer().inner.how_often == 2
    assert sorted(settings_without_effect(Outer, "x")) == ["x.inner.how_often", "x.maybe.how_often"]
