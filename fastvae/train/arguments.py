"""The types of `fastvae.train`'s arguments."""

from __future__ import annotations

from torch import nn

from fastvae.train.config import TrainConfig
from fastvae.train.task import Task


def check_types(model: object, config: object, task: object) -> None:
    """Check the arguments of `fastvae.train` that a caller mixes up most easily.

    Raises:
        TypeError: one is of another type; the message has the remedy.
    """
    if not isinstance(model, nn.Module):
        is_class = isinstance(model, type) and issubclass(model, nn.Module)
        remedy = "give an object of the class" if is_class else "see fastvae.VAE"
        raise TypeError(f"train: model must be a torch.nn.Module, got {_described(model)}; {remedy}")
    if not isinstance(config, TrainConfig):
        raise TypeError(f"train: config must be a fastvae.TrainConfig, got {_described(config)}")
    if task is not None and (isinstance(task, type) or not isinstance(task, Task)):
        raise TypeError(
            f"train: task must be an object of a subclass of fastvae.train.task.Task, got {_described(task)}; the name"
            " of a registered task is TrainConfig(task=...)"
        )


def _described(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"{type(value).__name__} {value!r:.60}"
