"""Trains with several optimizers on the ranks of torchrun; the argument is the folder of the runs."""

from __future__ import annotations

import sys
from pathlib import Path

import fastvae
from tests import runs


def main(folder: Path) -> None:
    for case in ("ddp-muon", "fsdp-sgd", "fsdp-adamax"):
        strategy, name = case.split("-")
        settings = {"steps": 12, "log_every": 1, "lr": 1e-3, "weight_decay": 0.1, "pictures": False}
        config = fastvae.TrainConfig(**{**runs.SMALL, **settings, "strategy": strategy, "optimizer": name})  # type: ignore[arg-type]
        fastvae.train(runs.small_vae(), runs.digits(), config, run_dir=folder / case)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
