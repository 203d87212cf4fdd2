"""The training loop: any module with ``forward(batch, noise_key)``, any data, one process or many.

``fastvae.train`` is this package, and calling it trains: ``fastvae.train(model, data, config)`` is `trainer.train`.
"""

import inspect
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fastvae.lazy import lazy_names

if TYPE_CHECKING:
    from fastvae.train.callbacks import BestWeights, Callback, EarlyStopping, Pictures, Plateau, RunView
    from fastvae.train.config import TrainConfig, in_steps
    from fastvae.train.optim_config import OptimConfig
    from fastvae.train.player import Player, PlayerSpec
    from fastvae.train.run import Run
    from fastvae.train.run_dir.weights import export_weights, load_weights
    from fastvae.train.task import ELBOTask, StepResult, Task
    from fastvae.train.tasks import TASKS, register_task
    from fastvae.train.trainer import train
    from fastvae.train.watch.config import CollapseConfig, EarlyStoppingConfig, GuardConfig, PlateauConfig
    from fastvae.train.watch.incidents import TrainingDiverged

__all__ = [
    "TASKS",
    "BestWeights",
    "Callback",
    "CollapseConfig",
    "ELBOTask",
    "EarlyStopping",
    "EarlyStoppingConfig",
    "GuardConfig",
    "OptimConfig",
    "Pictures",
    "Plateau",
    "PlateauConfig",
    "Player",
    "PlayerSpec",
    "Run",
    "RunView",
    "StepResult",
    "Task",
    "TrainConfig",
    "TrainingDiverged",
    "export_weights",
    "in_steps",
    "load_weights",
    "register_task",
    "train",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "callbacks": ("BestWeights", "Callback", "EarlyStopping", "Pictures", "Plateau", "RunView"),
        "config": ("TrainConfig", "in_steps"),
        "optim_config": ("OptimConfig",),
        "watch.config": ("CollapseConfig", "EarlyStoppingConfig", "GuardConfig", "PlateauConfig"),
        "player": ("Player", "PlayerSpec"),
        "task": ("ELBOTask", "StepResult", "Task"),
        "tasks": ("TASKS", "register_task"),
        "watch.incidents": ("TrainingDiverged",),
        "run": ("Run",),
        "trainer": ("train",),
        "run_dir.weights": ("export_weights", "load_weights"),
    },
)


class _TrainPackage(ModuleType):
    """A callable package, so that the function of the same name does not hide it."""

    def __call__(self, *arguments: Any, **options: Any) -> "Run":
        return self.train(*arguments, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.train)


sys.modules[__name__].__class__ = _TrainPackage
