"""Trains with Weights & Biases and MLflow, is stopped at a step, and goes on. The argument is the run directory."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import fastvae
from fastvae.train import Callback, RunView
from tests import runs


class Stop(Callback):
    def on_step(self, run: RunView) -> None:
        if run.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)


def main(run_dir: Path) -> None:
    settings = {"steps": 8, "log_every": 1, "eval_every": 4, "pictures": False, "pictures_every": 1}
    config = fastvae.TrainConfig(**{**runs.SMALL, **settings, "loggers": ("wandb", "mlflow")})  # type: ignore[arg-type]
    for status in ("preempted", "done"):
        run = fastvae.train(runs.small_vae(), runs.digits(), config, run_dir=run_dir, callbacks=[Stop()])
        assert run.status == status


if __name__ == "__main__":
    main(Path(sys.argv[1]))
