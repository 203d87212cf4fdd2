"""Optimizer and learning rate, as functions of the configuration and the step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from fastvae.durations import steps_of
from fastvae.train.optim_config import OptimConfig


def build_optimizer(
    config: OptimConfig, named_parameters: Iterable[tuple[str, nn.Parameter]], *, capturable: bool = False
) -> torch.optim.Optimizer:
    """Build fused Adam or AdamW, with weight decay on matrices only.

    Args:
        config: the settings.
        named_parameters: names and parameters of the model.
        capturable: keep the learning rate and the step on the device, as a CUDA graph requires.
    """
    parameters = [parameter for _, parameter in named_parameters if parameter.requires_grad]
    if not parameters:
        raise ValueError("train: the model has no parameter that requires a gradient; there is nothing to train")
    groups = [{"params": parameters, "weight_decay": 0.0}]  # one fused call if all have the same settings
    if config.weight_decay > 0:
        groups = [
            {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ]
    optimizer = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return optimizer(
        [group for group in groups if group["params"]],
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.adam_eps,
        fused=True,
        **({"capturable": True} if capturable else {}),
    )


def lr_at(config: OptimConfig, step: int, num_steps: int) -> float:
    """Return the learning rate of step ``step`` (0-based): linear warm-up, then constant or cosine decay to zero.

    Args:
        config: the settings.
        step: optimizer step, 0-based.
        num_steps: number of steps of the run, at whose end the cosine is zero.
    """
    warmup = steps_of(config.warmup)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if config.schedule == "constant":
        return config.lr
    progress = (step - warmup) / max(1, num_steps - warmup)
    return config.lr * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def set_lr(optimizer: torch.optim.Optimizer, lr: float | Tensor) -> None:
    """Set the learning rate of every parameter group; a tensor [] is read on its device at every step."""
    for group in optimizer.param_groups:
        group["lr"] = lr
