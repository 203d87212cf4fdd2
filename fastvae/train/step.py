"""One optimizer step on one global batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from fastvae.distributed import StepReport, Strategy
from fastvae.objective import FreeBits, ObjectiveConfig, build_objective, free_bits_mask
from fastvae.records import KeyedBatch, VAETerms
from fastvae.train.config import TrainConfig


class Judge(Protocol):
    """Says whether a step may change the parameters; see `fastvae.train.watch.guard.Guard`."""

    def accept(self, loss: Tensor, grad_norm: Tensor) -> Tensor:
        """From the sum of this rank's losses and the gradient's norm, [] bool."""


def train_step(
    strategy: Strategy,
    micro_batches: Sequence[KeyedBatch],
    config: TrainConfig,
    kl_weight: float | Tensor,
    guard: Judge | None = None,
) -> tuple[StepReport, Tensor]:
    """Forward and backward over this rank's micro-batches, then one optimizer step.

    The loss is the mean over the GLOBAL batch: each rank backs ``sum(local) * world_size / global_batch_size``, since
    back ends average gradients over ranks. So no result depends on how the batch is split. ``guard`` judges loss and
    gradient before they change the weights; without one, a gradient that is not finite is skipped.

    Returns:
        The step's report, and a float32 ``[4]`` with this rank's sums of loss, ELBO, rate and distortion in nats.
    """
    scale = strategy.world.world_size / config.global_batch_size
    several = len(micro_batches) > 1
    free_bits = free_bits_ahead(strategy, strategy.trained, micro_batches, config) if several else None
    sums = torch.zeros(4, device=strategy.world.device)
    for index, micro in enumerate(micro_batches):
        with strategy.accumulate(last=index == len(micro_batches) - 1):
            with autocast(strategy.world.device, config.precision):
                terms = forward(strategy.module, micro, config.objective)
            if free_bits is None:
                free_bits = _free_bits(strategy, terms.rate_per_dimension, config)
            objective = build_objective(config.objective, terms, kl_weight=kl_weight, free_bits=free_bits)
            strategy.backward(objective.loss.sum() * scale)
        parts = (objective.loss, objective.elbo, objective.rate, objective.distortion)
        sums += torch.stack([part.detach() for part in parts]).sum(1)
    accept = None if guard is None else partial(guard.accept, sums[0])
    return strategy.step(config.max_grad_norm, accept), sums


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 autocast for ``bf16``; nothing for ``fp32``."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def forward(module: nn.Module, micro: KeyedBatch, config: ObjectiveConfig) -> VAETerms:
    """The model's terms; a module that takes ``(batch, noise_key)`` only serves where no option asks for more."""
    options: dict[str, object] = {}
    if config.num_samples > 1:
        options["num_samples"] = config.num_samples
    if config.free_bits is not None:
        options["per_dimension"] = True
    terms: VAETerms = module(micro.batch, micro.key, **options)
    return terms


def _free_bits(strategy: Strategy, per_dimension: Tensor | None, config: TrainConfig) -> FreeBits | None:
    """Which dimensions pay for their rate: those whose mean KL over the GLOBAL batch is above the floor.

    The mask is constant in the gradient, so one sum of D floats over ranks before the backward is all it takes.
    """
    floor = config.objective.free_bits
    if floor is None:
        return None
    if per_dimension is None:
        raise ValueError(
            "train.objective.free_bits needs a model whose forward gives rate_per_dimension; set it to None"
        )
    mean = strategy.all_reduce_sum(per_dimension) / config.global_batch_size
    return FreeBits(floor_nats=floor, mask=free_bits_mask(mean, floor))


@torch.no_grad()
def free_bits_ahead(
    strategy: Strategy, model: nn.Module, micro_batches: Sequence[KeyedBatch], config: TrainConfig
) -> FreeBits | None:
    """The same under accumulation, where the first backward comes before the last forward: one pass of the encoder."""
    if config.objective.free_bits is None:
        return None
    with autocast(strategy.world.device, config.precision):
        per_dimension = [model.encode(micro.batch).kl_per_dimension() for micro in micro_batches]  # type: ignore[operator]
    return _free_bits(strategy, torch.stack(per_dimension).sum(0), config)
