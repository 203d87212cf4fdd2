"""Optimizer and learning rate, as functions of the configuration and the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from fastvae.durations import steps_of
from fastvae.train.muon import MuonWithAdamW
from fastvae.train.optim_config import OptimConfig

Parameters = Iterable[tuple[str, nn.Parameter]]
OptimizerFactory = Callable[[Parameters], torch.optim.Optimizer]
"""A user's optimizer, built from the names and the parameters of the model."""
Schedule = Callable[[int, int], float]
"""A user's schedule: the factor of the learning rate at a step (from 0) of a run of that many steps."""

CAPTURABLE = ("adamw", "adam")
"""The optimizers that a CUDA graph can capture."""
_RATIO = "lr_ratio"  # in a parameter group: its learning rate relative to the first group's


def build_optimizer(
    config: OptimConfig, named_parameters: Parameters, *, capturable: bool = False
) -> torch.optim.Optimizer:
    """Build the optimizer, with weight decay on matrices only.

    Args:
        config: the settings.
        named_parameters: names and parameters of the model.
        capturable: keep the learning rate and the step on the device, as a CUDA graph requires.

    Raises:
        ValueError: there is no parameter to train.
    """
    parameters = [parameter for _, parameter in named_parameters if parameter.requires_grad]
    if not parameters:
        raise ValueError("train: the model has no parameter that requires a gradient; there is nothing to train")
    if config.optimizer == "muon":
        return MuonWithAdamW(
            parameters,
            lr=config.lr,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
            betas=(config.beta1, config.beta2),
            eps=config.adam_eps,
        )
    groups = _groups(config, parameters)
    if config.optimizer == "sgd":
        nesterov = config.momentum > 0
        fused = not any(isinstance(parameter, DTensor) for parameter in parameters)  # PyTorch cannot shard it
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov, fused=fused)
    betas = (config.beta1, config.beta2)
    if config.optimizer == "adamax":
        return torch.optim.Adamax(groups, lr=config.lr, betas=betas, eps=config.adam_eps)
    optimizer = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return optimizer(
        groups,
        lr=config.lr,
        betas=betas,
        eps=config.adam_eps,
        fused=True,
        **({"capturable": True} if capturable else {}),
    )


def _groups(config: OptimConfig, parameters: list[nn.Parameter]) -> list[dict[str, object]]:
    """The parameters with and without weight decay; one group, so one fused call, if all have the same settings."""
    if config.weight_decay == 0:
        return [{"params": parameters, "weight_decay": 0.0}]
    groups: list[dict[str, object]] = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_own_optimizer(
    config: OptimConfig, factory: OptimizerFactory, parameters: Parameters
) -> torch.optim.Optimizer:
    """Build a user's optimizer. The settings' learning rate is that of its first group; others keep their ratio to it.

    Raises:
        ValueError: the optimizer's learning rate is not that of the settings.
        TypeError: the factory returned something else.
    """
    optimizer = factory(parameters)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"train: optimizer must return a torch.optim.Optimizer, got {type(optimizer).__name__}")
    first = float(optimizer.param_groups[0]["lr"])
    if not math.isclose(first, config.lr, rel_tol=1e-9):
        raise ValueError(
            f"train: the optimizer's learning rate must be that of the settings, {config.lr:g}, got {first:g}; set"
            f" TrainConfig(lr={first:g})"
        )
    for group in optimizer.param_groups[1:]:
        group[_RATIO] = float(group["lr"]) / first
    return optimizer


def lr_at(config: OptimConfig, step: int, num_steps: int, schedule: Schedule | None = None) -> float:
    """Return the learning rate of step ``step`` (0-based): a linear warm-up, then the schedule.

    Args:
        config: the settings, with durations in steps.
        step: optimizer step, 0-based.
        num_steps: number of steps of the run, at whose end cosine, linear and wsd are zero.
        schedule: a user's schedule, in place of warm-up and schedule of the settings.
    """
    if schedule is not None:
        return config.lr * schedule(step, num_steps)
    warmup = steps_of(config.warmup)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "inverse-sqrt":
        return config.lr * math.sqrt(max(warmup, 1) / max(step, 1))
    first = num_steps - steps_of(config.decay) if config.schedule == "wsd" else warmup
    progress = (step - first) / max(1, num_steps - first)
    done = min(1.0, max(0.0, progress))
    return config.lr * (0.5 * (1.0 + math.cos(math.pi * done)) if config.schedule == "cosine" else 1.0 - done)


def set_lr(optimizer: torch.optim.Optimizer, lr: float | Tensor) -> None:
    """Set the learning rate of every parameter group; a tensor [] is read on its device at every step."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group[_RATIO] if _RATIO in group else lr
