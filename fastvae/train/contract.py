"""Contracts of a user's modules, checked by a forward pass on two examples before the first step."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fastvae.data import Data, load_examples
from fastvae.distributions import DiagonalGaussian
from fastvae.generative import AnyModel
from fastvae.models import VAE
from fastvae.ops import noise_key
from fastvae.records import Batch, Draw, HasMean, KeyedBatch, VAETerms
from fastvae.train.config import TrainConfig
from fastvae.train.contract_parts import NUM_EXAMPLES, Broken, call, check_parts, posterior_of, prior_problems, words_of
from fastvae.train.step import autocast, draw_of

_UNCHECKED = "the contracts of the model are not checked before the first step"


@dataclass(frozen=True)
class _Keyed:
    batch: Batch
    key: Tensor


def check_contract(
    model: nn.Module, data: Data, config: TrainConfig, *, seed: int, device: torch.device, is_bound: bool = True
) -> tuple[str, ...]:
    """Call a copy of the model on two examples as training and evaluation do, and check what it returns.

    The model itself is unchanged, with two exceptions: modules that are initialised lazily get their weights, from the
    seed and therefore equal on all ranks, and a `VAE` without ``latent_dim`` gets the shape of its encoder's latents.
    No state of a random generator changes.

    Args:
        model: the model, not wrapped.
        data: the data of the run.
        config: the settings of the run.
        seed: the seed of the run.
        device: where the model will be trained.
        is_bound: whether the run trains on the objective of ``config``; a task of the user's is checked by its
            evaluation only.

    Returns:
        Lines to print: why the contracts could not be checked.

    Raises:
        ValueError: contracts are broken. The message has a line for each, with the rule, the value and the remedy.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []), autocast(device, config.precision):
        try:
            complete(model, data, seed=seed)
            copied = _copy(model)
            if copied is None:
                return (f"{_UNCHECKED}: it cannot be copied by copy.deepcopy",)
            problems = _problems(copied.to(device), _two_examples(data, seed, device), config, is_bound=is_bound)
        except torch.OutOfMemoryError:
            return (f"{_UNCHECKED}: the whole model does not fit on one device",)
        except Broken as error:
            raise ValueError(f"train: {error}") from error.__cause__
    if problems:
        raise ValueError("\n".join(f"train: {problem}" for problem in problems))
    return ()


def complete(model: nn.Module, data: Data, *, seed: int) -> None:
    """Give lazily initialised modules their weights, and a `VAE` without ``latent_dim`` its latent shape.

    Args:
        model: the model, changed in place only where something is missing.
        data: the first two training examples are read.
        seed: seed of the weights.
    """
    lazy = any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers()))
    shapeless = isinstance(model, VAE) and model.latent_shape is None
    if not lazy and not shapeless:
        return
    with torch.random.fork_rng([]), torch.no_grad():
        torch.manual_seed(seed)
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        keyed = _two_examples(data, seed, device)
        if lazy:
            call("the model's forward", lambda: model(keyed.batch, keyed.key))
        if shapeless:
            assert isinstance(model, VAE)
            copied = _copy(model)
            if isinstance(copied, VAE):
                model.set_latent_shape(tuple(posterior_of(copied, keyed.batch).mu.shape[1:]))


def _copy(model: nn.Module) -> nn.Module | None:
    """A copy, or None for a model that holds something that cannot be copied, such as a lock."""
    try:
        return copy.deepcopy(model)
    except (copy.Error, TypeError, RuntimeError):
        return None


def _two_examples(data: Data, seed: int, device: torch.device) -> KeyedBatch:
    indices = torch.arange(NUM_EXAMPLES).clamp(max=len(data.train) - 1)
    batch = load_examples(data.train, data.preprocess, indices, seed=seed, device=device)
    return _Keyed(batch, noise_key(seed, device=device))


def _problems(model: nn.Module, keyed: KeyedBatch, config: TrainConfig, *, is_bound: bool) -> list[str]:
    """The broken contracts of a model, which may be changed."""
    if isinstance(model, VAE):
        check_parts(model, keyed.batch)
    able = AnyModel(model)
    problems = []
    if is_bound:
        model.train()
        problems = _terms_problems(able, keyed, draw_of(config.objective), "training")
        problems += _free_bits_problems(able, keyed, config)
    model.eval()
    with torch.no_grad():
        draws = [Draw(evaluation=True)]
        if able.estimates_elbo and able.takes_draw and config.final_samples > 1:
            draws.append(Draw(num_samples=NUM_EXAMPLES, evaluation=True))
        for draw in draws:
            problems += _terms_problems(able, keyed, draw, "evaluation")
        if able.estimates_elbo and able.can("encode"):
            problems += _encode_problems(able, keyed.batch)
        if isinstance(model, VAE):
            problems += prior_problems(model, keyed.key)
    return list(dict.fromkeys(problems))


def _terms_problems(able: AnyModel, keyed: KeyedBatch, draw: Draw, purpose: str) -> list[str]:
    """The broken contracts of a forward pass."""
    where = f"the forward of {able.name} in {purpose}"
    shape: tuple[int, ...] = (NUM_EXAMPLES,) if draw.num_samples == 1 else (draw.num_samples, NUM_EXAMPLES)
    words = "[B]" if draw.num_samples == 1 else "[K, B]"
    if draw.num_samples > 1:
        where += f" with K = {draw.num_samples} samples"
    terms = call(where, lambda: able.terms(keyed, draw))
    if not isinstance(terms, VAETerms):
        return [f"{where} must return fastvae.VAETerms, got {words_of(terms)}; return VAETerms(z=, rate=, distortion=)"]
    problems = []
    if not isinstance(terms.z, Tensor) or tuple(terms.z.shape[: len(shape)]) != shape:
        problems.append(f"{where}: z must be {words[:-1]}, ...], got {words_of(terms.z)} for B = {NUM_EXAMPLES}")
    for name, value in (("rate", terms.rate), ("distortion", terms.distortion), ("penalty", terms.penalty)):
        if name == "penalty" and value is None:
            continue
        if not isinstance(value, Tensor) or tuple(value.shape) != shape:
            problems.append(
                f"{where}: {name} must be {words}, one number for each example, got {words_of(value)} for B ="
                f" {NUM_EXAMPLES};"
                " sum over an example's values and do not average over the batch"
            )
        elif value.dtype not in (torch.float32, torch.float64):
            problems.append(f"{where}: {name} must be float32, got {words_of(value)}; call .float() on it")
    if draw.per_dimension:
        problems += _per_dimension_problems(where, terms.rate_per_dimension)
    return problems


def _per_dimension_problems(where: str, value: Tensor | None) -> list[str]:
    if isinstance(value, Tensor) and value.dim() == 1:
        return []
    return [
        f"{where}: rate_per_dimension must be the KL of each latent dimension summed over the examples, [D], because"
        f" train.objective.free_bits needs it, got {words_of(value)}; return it, or set free_bits to None"
    ]


def _free_bits_problems(able: AnyModel, keyed: KeyedBatch, config: TrainConfig) -> list[str]:
    """Under accumulation free bits are computed by two methods before the first backward pass."""
    if config.objective.free_bits is None or config.accumulation == 1:
        return []
    missing = [name for name in ("encode", "kl_per_dimension") if not able.can(name)]
    if missing:
        return [
            f"{able.name} must have {' and '.join(missing)}, which train.objective.free_bits with accumulation"
            f" {config.accumulation} calls; set accumulation to 1, or free_bits to None"
        ]
    found = call(f"kl_per_dimension of {able.name}", lambda: able.kl_per_dimension(able.encode(keyed.batch)))
    return _per_dimension_problems(f"kl_per_dimension of {able.name}", found)


def _encode_problems(able: AnyModel, batch: Batch) -> list[str]:
    """The broken contracts of `GenerativeModel.encode`, which every evaluation calls."""
    posterior = call(f"encode of {able.name}", lambda: able.encode(batch))
    if isinstance(posterior, DiagonalGaussian):
        call(f"kl_per_dimension of {able.name}", lambda: able.kl_per_dimension(posterior))
    mean = posterior.mu if isinstance(posterior, HasMean) else posterior
    if isinstance(mean, Tensor) and mean.shape[:1] == (NUM_EXAMPLES,):
        return []
    return [
        f"encode of {able.name} must return a posterior with mu and logvar [B, ...], or a code [B, ...], got"
        f" {words_of(posterior)} for B = {NUM_EXAMPLES}"
    ]
