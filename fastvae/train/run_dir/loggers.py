"""Loggers: where metrics are written besides ``metrics.jsonl``. Only the process that writes builds them."""

from __future__ import annotations

import html
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import yaml

from fastvae.train.config import LoggerName
from fastvae.train.run_dir.files import dump_json, write_atomic
from fastvae.train.run_dir.run_dir import RunDir

_LIBRARY = {"wandb": "wandb", "mlflow": "mlflow"}  # of the loggers that are not always installed
_MAX_PARAM = 500  # characters: MLflow's limit of a parameter on old servers


class Logger(Protocol):
    """Writes the metrics of one run to a tracking library."""

    def scalars(self, kind: str, step: int, values: Mapping[str, float | int]) -> None:
        """Write the numbers of a line of the log."""

    def show(self, name: str, path: Path, step: int) -> None:
        """Show a picture (PNG) or a text (TXT)."""

    def close(self) -> None:
        """Write everything that is left."""


class TensorBoard:
    """TensorBoard's event files in the run directory.

    Steps after the checkpoint that a run resumes from are logged again: TensorBoard drops the old ones.
    """

    def __init__(self, run_dir: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # imported here: only the writing process needs it

        self._board = SummaryWriter(str(RunDir(run_dir).tensorboard), purge_step=first_step + 1)

    def scalars(self, kind: str, step: int, values: Mapping[str, float | int]) -> None:
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)

    def show(self, name: str, path: Path, step: int) -> None:
        if path.suffix == ".txt":
            self._board.add_text(name, path.read_text(encoding="utf-8"), step)
            return
        import numpy as np
        from PIL import Image

        with Image.open(path) as image:
            self._board.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        self._board.close()


class WandB:
    """Weights & Biases, configured by its own environment variables, such as WANDB_MODE=offline and WANDB_PROJECT.

    A resumed run continues the same W&B run. The horizontal axis is ``step``.
    """

    def __init__(self, run_dir: Path, first_step: int) -> None:
        import wandb

        self._wandb = wandb
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "fastvae"),
            name=os.environ.get("WANDB_NAME", run_dir.name),
            id=_kept_id(run_dir, "wandb", lambda: uuid4().hex[:12]),
            resume="allow",
            dir=run_dir,
            config=yaml.safe_load(RunDir(run_dir).config.read_text(encoding="utf-8")),
            settings=wandb.Settings(console="off", silent=True),
        )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def scalars(self, kind: str, step: int, values: Mapping[str, float | int]) -> None:
        self._run.log({"step": step, **{f"{kind}/{name}": value for name, value in values.items()}})

    def show(self, name: str, path: Path, step: int) -> None:
        if path.suffix == ".txt":
            shown = self._wandb.Html(f"<pre>{html.escape(path.read_text(encoding='utf-8'))}</pre>")
        else:
            shown = self._wandb.Image(str(path))
        self._run.log({"step": step, name: shown})

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """MLflow, at MLFLOW_TRACKING_URI, in the experiment MLFLOW_EXPERIMENT_NAME (default fastvae).

    A resumed run continues the same MLflow run.
    """

    def __init__(self, run_dir: Path, first_step: int) -> None:
        import mlflow

        self._metric = mlflow.entities.Metric
        self._client = mlflow.MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "fastvae")
        experiment = self._client.get_experiment_by_name(name)
        place = experiment.experiment_id if experiment is not None else self._client.create_experiment(name)
        is_new = not _ids(run_dir).get("mlflow")
        self._run_id = _kept_id(run_dir, "mlflow", lambda: self._create(place, run_dir.name))
        if is_new:
            settings = yaml.safe_load(RunDir(run_dir).config.read_text(encoding="utf-8"))
            params = [mlflow.entities.Param(key, str(value)[:_MAX_PARAM]) for key, value in _flat(settings)]
            for first in range(0, len(params), 100):  # the limit of one request
                self._client.log_batch(self._run_id, params=params[first : first + 100])
        else:
            self._client.update_run(self._run_id, status="RUNNING")

    def _create(self, experiment: str, name: str) -> str:
        return str(self._client.create_run(experiment, run_name=name).info.run_id)

    def scalars(self, kind: str, step: int, values: Mapping[str, float | int]) -> None:
        now = int(time.time() * 1000)
        metrics = [self._metric(f"{kind}/{name}", float(value), now, step) for name, value in values.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def show(self, name: str, path: Path, step: int) -> None:
        self._client.log_artifact(self._run_id, str(path), f"step_{step:08d}")

    def close(self) -> None:
        self._client.set_terminated(self._run_id)


LOGGERS: dict[LoggerName, Callable[[Path, int], Logger]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
}
"""The loggers that ``--train.loggers`` names; called with the run directory and the first step."""


def check_loggers(names: tuple[LoggerName, ...]) -> None:
    """Check that the libraries of the loggers are installed.

    Raises:
        ModuleNotFoundError: one is not; the message names it and the remedy.
    """
    for name in names:
        if name in _LIBRARY and find_spec(_LIBRARY[name]) is None:
            raise ModuleNotFoundError(
                f"train.loggers: {name} requires the package {_LIBRARY[name]}, which is not installed; pip install"
                " fastvae[loggers]"
            )


def build_logger(name: LoggerName, run_dir: Path, first_step: int) -> Logger:
    """Build the logger of that name."""
    return LOGGERS[name](run_dir, first_step)


def _ids(run_dir: Path) -> dict[str, str]:
    path = RunDir(run_dir).logger_ids
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _kept_id(run_dir: Path, logger: str, create: Callable[[], str]) -> str:
    """The ID of this run in a tracking library, which the run directory keeps."""
    known = _ids(run_dir)
    if logger not in known:
        known[logger] = create()
        write_atomic(RunDir(run_dir).logger_ids, dump_json(known))
    return known[logger]


def _flat(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(settings, Mapping):
        for name, value in settings.items():
            yield from _flat(value, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, settings
