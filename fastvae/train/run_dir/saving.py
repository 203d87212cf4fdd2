"""Saving checkpoints during training, and resuming from them."""

from __future__ import annotations

import json
import platform
import shutil
import threading
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from fastvae._version import __version__
from fastvae.data import Data
from fastvae.distributed import SideGroup, Strategy, is_peer_error, write_tensors
from fastvae.durations import steps_of
from fastvae.train.config import GENERATOR, TrainConfig
from fastvae.train.run_dir.checkpoint import (
    Checkpoint,
    CheckpointError,
    newest_valid,
    prune,
    publish,
    read_checkpoint,
    sweep,
    temporary_of,
)
from fastvae.train.run_dir.files import write_atomic
from fastvae.train.run_dir.identity import check_belongs, identify
from fastvae.train.run_dir.lock import RunLock, this_launch
from fastvae.train.run_dir.record import read_record, write_record
from fastvae.train.run_dir.results import check_same_data
from fastvae.train.run_dir.resume import Resume, check_resume, check_same_run
from fastvae.train.run_dir.run_dir import BEST, RunDir
from fastvae.train.state import TrainState

_CLOSING_S = 10.0


class SaveError(OSError):
    """A checkpoint could not be written; earlier checkpoints are unchanged."""


class Saver:
    """The checkpoints of one run directory; all ranks call every method together, except ``failed``.

    A save copies everything that it writes before it returns; the copy is written while training continues, in a thread
    with its own process group. At most one save is in progress.

    Args:
        run_dir: the run directory.
        strategies: strategies by player; the names of a player's tensors start with its name and a dot.
        config: the settings of the run.
        resolved: contents of ``config.yaml``.
        lock: held while a checkpoint is published.
        scheduled: values of the schedules at a step and factor of the learning rates, for ``state.json``.
        replicated: tensors that belong to no player, equal on all ranks; they are saved with the first.
    """

    def __init__(
        self,
        run_dir: Path,
        strategies: Mapping[str, Strategy],
        config: TrainConfig,
        resolved: Mapping[str, Any],
        lock: RunLock | None,
        resume: Resume = True,
        *,
        scheduled: Callable[[int, float], Mapping[str, float]],
        replicated: Mapping[str, Tensor],
    ) -> None:
        self._run_dir, self._root = run_dir, RunDir(run_dir).checkpoints
        self._strategies, self._world = strategies, next(iter(strategies.values())).world
        self._scheduled, self._replicated = scheduled, replicated
        self._config, self._resolved, self._lock = config, resolved, lock
        self._resume = resume
        self._data: Data | None = None  # this and the next are set on rank 0 by `identify`
        self._belongs_to: Mapping[str, Any] = {}
        self._side = SideGroup(self._world)
        self._writing: threading.Thread | None = None
        self._error: str | None = None  # error of the last save, the same on all ranks
        self._interruption: Exception | None = None  # of a save: another rank does not respond
        self.saved_step: int | None = None  # step of the newest checkpoint

    @property
    def failed(self) -> bool:
        """Whether a background save has failed and was not reported yet; may be True on some ranks first."""
        return self._error is not None

    def identify(self, models: Mapping[str, nn.Module], data: Data) -> None:
        """Record each player's model and the data on rank 0, before a strategy wraps the models.

        Raises:
            ValueError: on all ranks: some of them have other models or other data than rank 0.
        """
        found = identify(models, data)
        self._require_equal_on_all_ranks(found)
        if self._world.is_main:
            self._data, self._belongs_to = data, found

    def _require_equal_on_all_ranks(self, found: Mapping[str, Any]) -> None:
        own = json.dumps(found, sort_keys=True, default=str)
        differs = torch.tensor(float(own != self._world.broadcast_text(own)), device=self._world.device)
        num_others = int(next(iter(self._strategies.values())).all_reduce_sum(differs))
        if num_others:
            raise ValueError(
                f"train: model and data must be equal on all ranks, {num_others} of {self._world.world_size} ranks have"
                " others than rank 0; seed the code that makes them, or read the data from a file"
            )

    def resume(self, averages: Mapping[str, dict[str, Tensor]], best: dict[str, Tensor]) -> TrainState:
        """Return the state to resume from: the newest valid checkpoint of this run, or step 0.

        Args:
            averages: averaged weights by player; filled in place.
            best: best weights of the generator, or empty; filled in place.

        Raises:
            ValueError: on all ranks: the directory contains another run or one of another format, contains a run
                although it must not, or contains none although it must.
        """
        self._check(partial(check_resume, self._run_dir, self._resume))
        checkpoint = self._newest()
        if checkpoint is not None:
            check_same_run(checkpoint, self._resolved, self._run_dir, self._config.num_steps)
            self._require_same_players(checkpoint)
        self._check(partial(self._begin, checkpoint is not None))
        if checkpoint is None:
            return TrainState.start(self._world.device, averages, best)
        for name, strategy in self._strategies.items():
            copies = _copies(name, averages[name], best)
            strategy.load(checkpoint.path, copies, self._replicated_with(name), prefix=f"{name}.")
        self.saved_step = checkpoint.step
        return TrainState.start(self._world.device, averages, best, checkpoint.scalars)

    def _begin(self, is_resumed: bool) -> None:
        """Initialise the run directory."""
        if self._resume == "must" and not is_resumed:
            raise ValueError(f"train: {self._run_dir} has no valid checkpoint to resume from; use resume=True")
        paths = RunDir(self._run_dir)
        record = read_record(self._run_dir)
        if record is not None and (is_resumed or paths.weights.exists()):
            assert self._data is not None, "identify comes before resume"
            check_same_data(self._run_dir, self._data)
            check_belongs(self._run_dir, record, self._belongs_to)
        write_record(self._run_dir, {**self._belongs_to, "launch": this_launch()})
        write_atomic(paths.config, yaml.safe_dump(self._resolved, sort_keys=False))

    def _check(self, work: Callable[[], None]) -> None:
        """Call ``work`` on rank 0, and raise its ValueError on all ranks."""
        error = None
        if self._world.is_main:
            try:
                work()
            except ValueError as problem:
                error = str(problem)
        error = self._world.broadcast_text(error)
        if error is not None:
            raise ValueError(error)

    def _require_same_players(self, checkpoint: Checkpoint) -> None:
        saved, own = sorted(checkpoint.scalars["players"]), sorted(self._strategies)
        if saved != own:
            raise ValueError(
                f"train: {self._run_dir} contains a run of {', '.join(saved)}, but this task trains {', '.join(own)}; "
                "choose another run_dir, or the task that it was started with"
            )

    def _replicated_with(self, player: str) -> Mapping[str, Tensor]:
        return self._replicated if player == next(iter(self._strategies)) else {}

    def _newest(self) -> Checkpoint | None:
        """Return the newest valid checkpoint, the same on all ranks; warn of invalid ones and skip them."""
        chosen: Checkpoint | None = None
        if self._world.is_main:
            sweep(self._root)
            chosen = newest_valid(self._root, on_invalid=_warn_of)
        path = self._world.broadcast_text(None if chosen is None else str(chosen.path))
        if path is None:
            return None
        return chosen if chosen is not None else read_checkpoint(Path(path), checksums=False)

    def save(self, state: TrainState, *, wait: bool = False) -> None:
        """Save the current state; return once it is copied, or with ``wait`` once it is on the disk.

        Raises:
            SaveError: this save or the one before failed, and the policy is to stop.
        """
        self.finish()
        tensors: dict[str, Tensor] = {}
        for name, strategy in self._strategies.items():
            own = strategy.snapshot(_copies(name, state.players[name].ema, state.best), self._replicated_with(name))
            tensors |= {f"{name}.{key}": tensor for key, tensor in own.items()}
        write = partial(self._attempt, tensors, self._scalars(state))
        self._writing = threading.Thread(target=write, name="fastvae-save", daemon=True)
        self._writing.start()
        if wait or not self._config.save_in_background:
            self.finish()

    def finish(self) -> None:
        """Wait for the save in progress, and report its errors.

        Raises:
            SaveError: it failed, and the policy is to stop.
        """
        if self._writing is not None:
            self._writing.join()
            self._writing = None
        if self._interruption is not None:
            raise self._interruption
        error, self._error = self._error, None
        if error is None:
            return
        if self._config.on_save_error == "stop":
            raise SaveError(f"{error}; earlier checkpoints are unchanged")
        if self._world.is_main:
            warnings.warn(f"{error}; the run continues (train.on_save_error=warn)", stacklevel=2)

    def leave(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Wait a moment for a save in progress; it cannot finish if another rank died or does not respond."""
        if self._writing is not None:
            self._writing.join(timeout=0.0 if is_peer_error(error) else _CLOSING_S)
            self._writing = None

    def _scalars(self, state: TrainState) -> dict[str, Any]:
        config = self._config
        return {
            **state.counters(),
            "position": state.step * config.global_batch_size,
            "seed": self._resolved["seed"],
            **self._scheduled(state.step, state.lr_factor),
            "world_size": self._world.world_size,
            "strategy": next(iter(self._strategies.values())).name,
            "config": self._resolved,
            "versions": {
                "fastvae": __version__,
                "torch": str(torch.__version__),
                "python": platform.python_version(),
            },
        }

    def _attempt(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
        """Run in the thread; a communication error is stored for the main thread."""
        try:
            self._write(tensors, scalars)
        except Exception as error:  # noqa: BLE001  raised in ``finish``
            self._interruption = error

    def _write(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
        """Write in three phases; each is complete on all ranks before the next starts on any."""
        temporary = temporary_of(self._root, scalars["step"])
        for part in (
            partial(self._open, temporary),
            partial(write_tensors, temporary, tensors, self._side.group),
            partial(self._close, temporary, scalars),
        ):
            error = self._side.attempt(part)
            if error is not None:
                removed = self._side.attempt(partial(self._clear, temporary))
                left = "" if removed is None else f" (and {temporary} could not be removed: {removed})"
                self._error = f"the checkpoint of step {scalars['step']} could not be written: {error}{left}"
                return
        self.saved_step = scalars["step"]

    def _open(self, temporary: Path) -> None:
        if self._world.is_main:
            temporary.mkdir(parents=True)

    def _close(self, temporary: Path, scalars: Mapping[str, Any]) -> None:
        if not self._world.is_main:
            return
        if self._lock is not None:
            self._lock.check()
        publish(temporary, scalars)
        every = None if self._config.keep_every is None else steps_of(self._config.keep_every)
        prune(self._root, keep=self._config.keep_checkpoints, keep_every=every)

    def _clear(self, temporary: Path) -> None:
        if self._world.is_main and temporary.exists():
            shutil.rmtree(temporary)


def _copies(player: str, averages: dict[str, Tensor], best: dict[str, Tensor]) -> Mapping[str, dict[str, Tensor]]:
    """The copies of a player's parameters that are saved: only the generator has best ones."""
    return {"averages": averages, BEST: best} if player == GENERATOR else {"averages": averages}


def _warn_of(error: CheckpointError) -> None:
    warnings.warn(f"checkpoint skipped: {error}", stacklevel=2)
