"""The training loop: any module that honours ``forward(batch, noise_key)``, any data, one process or many."""

from fastvae.train.config import TrainConfig
from fastvae.train.trainer import Run, train

__all__ = ["Run", "TrainConfig", "train"]
