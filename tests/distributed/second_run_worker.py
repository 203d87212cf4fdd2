"""Trains twice in the same processes of torchrun; in the second run rank 1 fails. The argument is the folder."""

from __future__ import annotations

import sys
from pathlib import Path

import torch.distributed as dist

import fastvae
from fastvae.train import Callback, RunView
from tests import runs


class Fail(Callback):
    def on_step(self, run: RunView) -> None:
        if run.step == 2 and dist.get_rank() == 1:
            raise RuntimeError("a planted failure")


def main(folder: Path) -> None:
    for name, callbacks in (("first", []), ("second", [Fail()])):
        config = fastvae.TrainConfig(**{**runs.SMALL, "steps": 4, "pictures": False, "timeout": 60.0})  # type: ignore[arg-type]
        fastvae.train(runs.small_vae(), runs.digits(), config, run_dir=folder / name, callbacks=callbacks)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
