"""One optimizer step on one global batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from fastvae.distributed import StepReport, Strategy
from fastvae.generative import AnyModel
from fastvae.objective import FreeBits, ObjectiveConfig, build_objective, free_bits_mask
from fastvae.records import Draw, KeyedBatch, VAETerms
from fastvae.train.config import TrainConfig


class Judge(Protocol):
    """Decides whether a step may change the parameters; see `fastvae.train.watch.guard.Guard`."""

    def accept(self, loss: Tensor, grad_norm: Tensor) -> Tensor:
        """Return [] bool from the sum of this rank's losses and the norm of the gradient."""


def train_step(
    strategy: Strategy,
    micro_batches: Sequence[KeyedBatch],
    config: TrainConfig,
    kl_weight: float | Tensor,
    guard: Judge | None = None,
) -> tuple[StepReport, Tensor]:
    """Forward and backward over this rank's micro-batches, then one optimizer step.

    The loss is the mean over the GLOBAL batch: each rank computes the gradient of ``sum(local) * world_size /
    global_batch_size``, since back ends average gradients over ranks. So no result depends on how the batch is split.
    ``guard`` checks loss and gradient before they change the weights; without one, a step whose gradient is not finite
    is skipped.

    Returns:
        The step's report, and a float32 ``[4]`` with this rank's sums of loss, ELBO, rate and distortion in nats;
        ``[5]`` for a model with a penalty, whose sum comes last.
    """
    scale = strategy.world.world_size / config.global_batch_size
    several = len(micro_batches) > 1
    free_bits = free_bits_ahead(strategy, strategy.trained, micro_batches, config) if several else None
    sums: Tensor | None = None
    for index, micro in enumerate(micro_batches):
        with strategy.accumulate(last=index == len(micro_batches) - 1):
            with autocast(strategy.world.device, config.precision):
                terms = forward(strategy.module, micro, config.objective)
            if free_bits is None:
                free_bits = _free_bits(strategy, terms.rate_per_dimension, config)
            objective = build_objective(config.objective, terms, kl_weight=kl_weight, free_bits=free_bits)
            strategy.backward(objective.loss.sum() * scale)
        parts = (objective.loss, objective.elbo, objective.rate, objective.distortion, objective.penalty)
        part_sums = torch.stack([part.detach().float() for part in parts if part is not None]).sum(1)
        sums = part_sums if sums is None else sums + part_sums
    assert sums is not None  # every rank has at least one micro-batch, which may be empty
    accept = None if guard is None else partial(guard.accept, sums[0])
    return strategy.step(config.max_grad_norm, accept), sums


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return an autocast context: bf16 for ``bf16``, disabled for ``fp32``."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def forward(module: nn.Module, micro: KeyedBatch, config: ObjectiveConfig) -> VAETerms:
    """Return the model's terms; a module without a parameter ``draw`` is called without it, see `check_objective`."""
    draw = draw_of(config)
    options: dict[str, Draw] = {} if draw == Draw() else {"draw": draw}
    terms: VAETerms = module(micro.batch, micro.key, **options)
    return terms


def check_objective(model: nn.Module, config: ObjectiveConfig) -> None:
    """Check, before the first step, that the model's forward provides what the objective requires.

    Raises:
        ValueError: forward has no ``draw``, and the objective requires several samples or a rate per dimension.
    """
    if draw_of(config) != Draw() and not AnyModel(model).takes_draw:
        raise ValueError(
            f"train.objective: num_samples={config.num_samples}, free_bits={config.free_bits} require a model with"
            f" forward(batch, noise_key, draw), got {type(model).__name__} with forward(batch, noise_key); use"
            " num_samples=1 and no free bits, or add a parameter draw (fastvae.Draw) to its forward"
        )


def draw_of(config: ObjectiveConfig) -> Draw:
    """The draw that an objective requires of the forward pass."""
    return Draw(num_samples=config.num_samples, per_dimension=config.free_bits is not None)


def _free_bits(strategy: Strategy, per_dimension: Tensor | None, config: TrainConfig) -> FreeBits | None:
    """Return the dimensions whose rate is penalised: their mean KL over the GLOBAL batch is above the floor.

    The mask is constant in the gradient, so it requires only one all-reduce of D floats before the backward pass.
    """
    floor = config.objective.free_bits
    if floor is None:
        return None
    if per_dimension is None:
        raise ValueError(
            "train.objective.free_bits requires a model with a KL per latent dimension (rate_per_dimension of its "
            "forward;"
            " with accumulation kl_per_dimension too), got none; set it to None"
        )
    mean = strategy.all_reduce_sum(per_dimension) / config.global_batch_size
    return FreeBits(floor_nats=floor, mask=free_bits_mask(mean, floor))


@torch.no_grad()
def free_bits_ahead(
    strategy: Strategy, model: nn.Module, micro_batches: Sequence[KeyedBatch], config: TrainConfig
) -> FreeBits | None:
    """The same with accumulation, whose first backward precedes the last forward: by one pass of the encoder."""
    if config.objective.free_bits is None:
        return None
    able = AnyModel(model)
    with autocast(strategy.world.device, config.precision):
        found = [able.kl_per_dimension(able.encode(micro.batch)) for micro in micro_batches]
    known = [per_dimension for per_dimension in found if per_dimension is not None]
    return _free_bits(strategy, torch.stack(known).sum(0) if known else None, config)
