"""A run's way to and from its checkpoints: where it goes on, and what it saves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from fastvae.distributed import Strategy
from fastvae.train.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from fastvae.train.config import TrainConfig
from fastvae.train.files import write_atomic
from fastvae.train.resume import check_same_run
from fastvae.train.state import TrainState


class Saver:
    """The checkpoints of one run directory; every method is called by all ranks together."""

    def __init__(self, run_dir: Path, strategy: Strategy, config: TrainConfig, resolved: Mapping[str, Any]) -> None:
        self._run_dir, self._root = run_dir, run_dir / "checkpoints"
        self._strategy, self._world = strategy, strategy.world
        self._config, self._resolved = config, resolved

    def resume(self, averages: dict[str, Tensor]) -> TrainState:
        """The state to go on from: the newest valid checkpoint of this same run, or step 0."""
        checkpoint = newest_checkpoint(self._root, self._world)
        if checkpoint is not None:
            check_same_run(checkpoint, self._resolved, self._run_dir)
        if self._world.is_main:
            self._run_dir.mkdir(parents=True, exist_ok=True)
            write_atomic(self._run_dir / "config.yaml", yaml.safe_dump(self._resolved, sort_keys=False))
        self._world.barrier()
        if checkpoint is None:
            return TrainState.start(self._world.device, averages)
        return load_checkpoint(checkpoint, self._strategy, averages)

    def save(self, state: TrainState) -> None:
        """Save the run as it stands."""
        scalars = {"config": self._resolved}
        save_checkpoint(self._root, self._strategy, state, scalars, self._config.keep_checkpoints)
