"""The training loop: any module that honours ``forward(batch, noise_key)``, any data, one process or many."""

from fastvae.train.config import TrainConfig
from fastvae.train.guard import GuardConfig
from fastvae.train.incidents import TrainingDiverged
from fastvae.train.trainer import Run, train
from fastvae.train.weights import export_weights, load_weights

__all__ = [
    "GuardConfig",
    "Run",
    "TrainConfig",
    "TrainingDiverged",
    "export_weights",
    "load_weights",
    "train",
]
