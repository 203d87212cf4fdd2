"""The configuration of a run, and how it is read from a run directory."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import dacite
import tyro
import yaml

from fastvae.data import VALIDATION_SHARE, DataConfig
from fastvae.data import resolve as resolve_data
from fastvae.data.kinds import ANY
from fastvae.models import ModelConfig
from fastvae.own_settings import extended
from fastvae.plugins import why_other_plugins
from fastvae.settings import Settings
from fastvae.train import TrainConfig
from fastvae.train.run_dir.record import read_record
from fastvae.train.run_dir.run_dir import RunDir

_MAX_CONFIG_BYTES = 2**20  # far more than a run writes
_MAX_MESSAGE = 500


@dataclass(frozen=True, kw_only=True)
class RunConfig(Settings):
    """Configuration of a run. A recipe is a function that returns one; command-line options change its fields."""

    recipe: Annotated[str, tyro.conf.Suppress] = "custom"
    """Name of the recipe that the configuration is derived from."""
    run_dir: Path | None = None
    """Directory that the run writes to; None is runs/RECIPE."""
    seed: int = 0
    """Seed of the initial weights, the noise and the order of the examples."""
    weights: Path | None = None
    """File with initial weights, such as one of `fastvae export`; None initialises them from the seed."""
    model: ModelConfig
    """The model."""
    data: DataConfig
    """The data."""
    train: TrainConfig
    """The training."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be in 0..2**32 - 1, got {self.seed}")

    @property
    def directory(self) -> Path:
        """The run directory."""
        return self.run_dir if self.run_dir is not None else Path("runs") / self.recipe


def resolve(config: RunConfig) -> RunConfig:
    """Return the configuration with the name of its data resolved, see `fastvae.data.resolve`. Idempotent.

    The likelihood "table" is for tables only, so a path is read as a table if the likelihood is "table". A run that
    needs a validation set has one of 5 % of the training examples, unless the configuration names another.

    Raises:
        ValueError: the name of the data requires a path, and the configuration has none.
    """
    data = resolve_data(config.data)
    if config.model.likelihood == "table" and data.name == ANY:
        data = replace(data, name="table")
    if config.train.follows_validation and data.validation_path is None:
        if data.validation_share == 0:
            raise ValueError(
                "data.validation_share is 0, and train.keep_best, early_stopping.patience and plateau.patience need a"
                " validation set; leave the share out, or turn these off"
            )
        data = replace(data, validation_share=data.validation_share or VALIDATION_SHARE)
    return replace(config, data=data)


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, which no run writes: a few lines of aliases can expand to more than fits in memory."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        return super().compose_node(parent, index)


def read_config(directory: Path) -> RunConfig:
    """Read the configuration of a run directory.

    If the run directory was moved together with files that it refers to, the files are found at their new path.

    Plugins with other source files than the run's are reported on stderr.

    Raises:
        ValueError: the file does not exist, was not written by this version, or needs a plugin that is not loaded; the
            message states the reason.
    """
    path, record = RunDir(directory).config, read_record(directory)
    fields = read_fields(directory)
    if fields.get("model") is None or fields.get("data") is None:
        raise ValueError(_of_a_users_model(directory, fields))
    try:
        config = dacite.from_dict(extended(RunConfig), fields, dacite.Config(cast=[Path, tuple], strict=True))
        return _relocated(config, Path(str(record and record.get("directory"))), directory)
    except (dacite.DaciteError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())[:_MAX_MESSAGE]}") from None


def read_users_config(directory: Path) -> RunConfig:
    """The configuration of a run of a user's model: model and data are defaults, which nothing reads.

    Raises:
        ValueError: the directory does not contain a run, or ``config.yaml`` is not one of this version.
    """
    read_record(directory)
    fields = read_fields(directory)
    try:
        rules = dacite.Config(cast=[Path, tuple], strict=True)
        train = dacite.from_dict(extended(TrainConfig), fields.get("train") or {}, rules)
        return RunConfig(
            recipe=str(fields.get("recipe", "custom")),
            run_dir=directory,
            seed=fields.get("seed", 0),
            model=ModelConfig(),
            data=DataConfig(),
            train=train,
        )
    except (dacite.DaciteError, ValueError, TypeError) as error:
        message = " ".join(str(error).split())[:_MAX_MESSAGE]
        raise ValueError(f"{RunDir(directory).config}: {message}") from None


def read_fields(directory: Path) -> dict[str, Any]:
    """The settings in ``config.yaml``, by name.

    Raises:
        ValueError: the file does not exist, or is not a mapping in YAML.
    """
    path = RunDir(directory).config
    record = read_record(directory)
    need, differ = why_other_plugins(directory, record)
    if need is not None:
        raise ValueError(need)
    if differ is not None:
        print(f"warning: {differ}; results can differ", file=sys.stderr, flush=True)
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_CONFIG_BYTES)
        fields: Any = yaml.load(text.decode("utf-8"), _PlainLoader)
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(
            f"{directory} is not a run directory: {path.name} is missing; `fastvae train RECIPE` creates one"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(fields, dict):
        raise ValueError(f"{path} must contain the settings of a run, got {str(fields)[:60]!r}; was it changed?")
    return fields


def _of_a_users_model(directory: Path, fields: dict[str, Any]) -> str:
    """The message that a run was not started from a recipe."""
    module = fields.get("module")
    if isinstance(module, dict):
        target = f"{module.get('file')}:{module.get('function')}"
        return (
            f"{directory} was trained from {target}, which is imported only if the command names it: add --module"
            f" {target}"
        )
    return (
        f"{RunDir(directory).config} does not describe model and data: the run was started from Python with its own;"
        f" load it there by fastvae.load({str(directory)!r}, model=..., data=...), or add --module FILE.py:FUNCTION"
        " with a function that builds both"
    )


def _relocated(value: Any, before: Path, now: Path) -> Any:
    """Return a configuration whose missing paths are replaced by those at the same path relative to the run directory.

    Args:
        value: the configuration, or a field of it.
        before: the run directory when it was written.
        now: the run directory now.
    """
    if isinstance(value, Path) and not value.exists():
        moved = Path(os.path.normpath(now.absolute() / os.path.relpath(value, before)))
        return moved if moved.exists() else value
    if isinstance(value, Settings):
        changes = {}
        for each in fields(value):  # type: ignore[arg-type]  # every Settings is a dataclass
            old = getattr(value, each.name)
            new = _relocated(old, before, now)
            if new is not old:
                changes[each.name] = new
        return replace(value, **changes) if changes else value  # type: ignore[type-var]
    return value
