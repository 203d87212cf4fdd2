"""Examples that a loaded run generates from latents, in chunks of rows (see `fastvae.run.chunks`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fastvae.data.condition import Value
from fastvae.distributed import Rounds
from fastvae.distributions.priors import prior_noise
from fastvae.generative import AnyModel, mean_of
from fastvae.ops import noise_key
from fastvae.records import PAD
from fastvae.run import latents
from fastvae.run.chunks import Examples, RunParts


def sample_chunks(
    run: RunParts,
    num: int,
    condition: Mapping[str, Value | None],
    *,
    seed: int = 0,
    shift: Tensor | None = None,
    temperature: float | None = None,
    rounds: Rounds | None = None,
) -> Iterator[Tensor]:
    """Yield the examples of `LoadedRun.sample` in chunks, [B, ...]; the ranks of ``rounds`` share them."""
    able = AnyModel(run.model)
    able.require("draw_prior", "sample")
    latents.check_num("sample", num)
    options = latents.sampling_options(able, temperature)

    def draw(rows: int, key: Tensor) -> Tensor:
        z = able.draw_prior(rows, key)
        if shift is None:
            return z
        latents.check_shape("sample: shift", shift.unsqueeze(0), tuple(z.shape[1:]))
        return z + shift.to(run.device)

    given = condition_vectors(run, num, condition)
    return generate_chunks(run, num, draw, condition=given, seed=seed, rounds=rounds, **options)


def vary_chunks(
    run: RunParts,
    example: Examples,
    num: int = 16,
    *,
    strength: float = 0.5,
    seed: int = 0,
    rounds: Rounds | None = None,
) -> Iterator[Tensor]:
    """Yield the examples of `LoadedRun.vary` in chunks, [B, ...]; the ranks of ``rounds`` share them."""
    latents.check_num("vary", num)
    mu, condition = latents_of(run, "vary", example)

    def draw(rows: int, key: Tensor) -> Tensor:
        return latents.perturb(mu[0], prior_noise(rows, tuple(mu.shape[1:]), key), strength)

    given = latents.repeat_condition(condition, num)
    return generate_chunks(run, num, draw, condition=given, seed=seed, rounds=rounds)


@torch.no_grad()
def generate_chunks(
    run: RunParts,
    num: int,
    draw: Callable[[int, Tensor], Tensor],
    *,
    condition: Tensor | None,
    seed: int,
    rounds: Rounds | None = None,
    **how: Any,
) -> Iterator[Tensor]:
    """Yield generated examples, [B, ...] a chunk.

    Args:
        run: the run.
        num: number of examples on all ranks together.
        draw: returns latents [B, ...] for their number and their noise key.
        condition: [num, C], or None.
        seed: seed of the noise.
        rounds: the ranks that share the chunks; None is this process alone.
        how: options of the model's ``generate``.
    """
    able, rows = AnyModel(run.model), run.config.train.eval_batch_size

    @torch.no_grad()
    def chunk(number: int) -> dict[str, Tensor]:
        first, stop = number * rows, min((number + 1) * rows, num)
        key = noise_key(seed, 0, first, device=run.device)
        z = draw(stop - first, key)
        if number == 1:
            _check_rows_differ(z, draw, noise_key(seed, 0, 0, device=run.device))
        given = None if condition is None else condition[first:stop]
        return {"examples": able.generate(z, given, key, **how)}

    for each in (rounds or Rounds()).in_order(-(-num // rows), chunk):
        yield each["examples"]


def join(chunks: Iterable[Tensor]) -> Tensor:
    """Concatenate chunks of examples; shorter sentences are padded."""
    parts = list(chunks)
    if len({part.shape[1:] for part in parts}) == 1:
        return torch.cat(parts)
    width = max(part.shape[-1] for part in parts)
    return torch.cat([F.pad(part, (0, width - part.shape[-1]), value=PAD) for part in parts])


def _check_rows_differ(z: Tensor, draw: Callable[[int, Tensor], Tensor], first_key: Tensor) -> None:
    """Check that a user's prior does not repeat its first latents in the second chunk.

    Raises:
        ValueError: it does.
    """
    if z.is_floating_point() and z.numel() > 1 and torch.equal(z, draw(len(z), first_key)):
        raise ValueError(
            "sample: the prior returns the same latents for different rows; row i of draw_prior(num, noise_key) must be"
            " a function of the seed noise_key[0] and of noise_key[2] + i, as that of fastvae.ops.philox_normal is"
        )


@torch.no_grad()
def generate(run: RunParts, z: Tensor, condition: Tensor | None, seed: int | None, **how: float) -> Tensor:
    """Return the examples of latents [N, ...]; without a seed nothing is drawn."""
    key = None if seed is None else noise_key(seed, device=run.device)
    return AnyModel(run.model).generate(z.to(run.device), condition, key, **how)


def condition_vectors(run: RunParts, num: int, values: Mapping[str, Value | None]) -> Tensor | None:
    """Return conditions float32 [num, C] by their names; None for a model without conditions.

    Raises:
        ValueError: a condition is unknown.
    """
    named = {name: value for name, value in values.items() if value is not None}
    if run.data.conditions is not None:
        return run.data.conditions.vectors(num, **named).to(run.device)
    if named:
        raise ValueError(f"this model was trained without conditions, got {', '.join(named)}; leave them out")
    return None


@torch.no_grad()
def mean_latents(run: RunParts, indices: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the mean latents [N, ...] and the conditions of some test examples."""
    batch = run.batch(indices)
    return mean_of(AnyModel(run.model).encode(batch)), batch.condition


@torch.no_grad()
def latents_of(run: RunParts, what: str, example: Examples) -> tuple[Tensor, Tensor | None]:
    """Return the mean latent [1, ...] and the condition of a test example by its index, or of one example in memory."""
    if isinstance(example, int | np.integer):
        return mean_latents(run, torch.tensor([int(example)]))
    source = run.source(example)
    if len(source) != 1:
        raise ValueError(f"{what}: must be given one example, got {len(source)}; use x[:1]")
    batch = run.batch(torch.tensor([0]), source)
    return mean_of(AnyModel(run.model).encode(batch)), batch.condition
