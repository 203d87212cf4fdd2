"""Bounds on log p(x) over a data set: ELBO and importance-weighted bound, in nats per example, bits per dimension."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from fastvae.evaluate.latent import LatentMoments, latent_part
from fastvae.evaluate.support import support_of
from fastvae.generative import AnyModel
from fastvae.objective import log_mean_exp
from fastvae.records import Draw, KeyedBatch

Reduce = Callable[[Tensor], Tensor]  # the sum of a tensor over all ranks


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Means over a data set and all ranks. None if a number is not defined for the model or the data."""

    num_examples: int
    """Number of examples on all ranks."""
    num_samples: int
    """Number K of samples of z per example."""
    elbo_nats: float | None = None
    """-(rate + distortion)."""
    nll_nats: float | None = None
    """Negative importance-weighted bound of K samples; negative ELBO for K = 1."""
    nll_standard_error_nats: float | None = None
    """Standard error of nll_nats over the examples."""
    rate_nats: float | None = None
    """KL(q(z|x) || p(z)): in closed form if the prior has one, else from one sample."""
    distortion_nats: float | None = None
    """-log p(x|z), mean over the samples."""
    bits_per_dim: float | None = None
    """Bits per dimension of discrete data, from nll_nats."""
    active_units: int | None = None
    """Number of latent dimensions whose posterior mean has a variance above 0.01 over the data, in units of z, whatever
    the scale of the prior."""
    latent_units: int | None = None
    """Number of latent dimensions."""
    kl_per_dimension_nats: tuple[float, ...] | None = None
    """Rate per latent dimension; None if the prior has no closed form."""
    mutual_information_nats: float | None = None
    """Mutual information of x and z under q for the first 1024 examples; it does not depend on the prior. None if the
    estimate has no meaning, for example because the means are very large in units of their standard deviations."""
    mutual_information_limit_nats: float | None = None
    """Log of the number of examples of the mutual information, which no estimate exceeds: 6.93 for 1024. An estimate
    near it is a lower bound."""
    squared_error: float | None = None
    """Distortion of a model with squared error, summed over an example's values."""
    ndcg_100: float | None = None
    """NDCG@100 of the items held out of each user, see `fastvae.evaluate.ranking.evaluate_ranking`; None unless
    ``train.validation_metric`` is ndcg_100."""
    penalty: float | None = None
    """Penalty in the units of the loss; None for a model without one."""

    def loss(self, kl_weight: float = 1.0) -> float:
        """Return distortion + kl_weight * rate + penalty, in nats or the model's own units: what training minimises.

        For a model without a rate it is distortion + penalty.
        """
        distortion = self.squared_error if self.distortion_nats is None else self.distortion_nats
        assert distortion is not None, "evaluate sets one of them"
        return distortion + kl_weight * (self.rate_nats or 0.0) + (self.penalty or 0.0)

    def known(self) -> dict[str, Any]:
        """Return the numbers that are defined for the model and the data, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[KeyedBatch],
    *,
    num_samples: int = 1,
    chunk_rows: int = 4096,
    all_reduce_sum: Reduce | None = None,
    log_jacobian_nats: float | None = None,
    event_numel: int | None = None,
) -> Evaluation:
    """Compute ELBO and importance-weighted bound of ``model`` on ``batches``, averaged over all ranks.

    The noise is a function of the example, so that no score depends on batch size, rank or chunk.

    Args:
        model: any unwrapped module with ``forward(batch, noise_key) -> VAETerms``. If its forward has a parameter
            ``draw``, it is called with that of evaluation (`fastvae.Draw`). A model without it, or without an ELBO, is
            evaluated with one sample, as the result's ``num_samples`` shows.
        batches: records with ``batch`` and ``key``; a rank may have none.
        num_samples: K samples per example, at most 65536 (Burda et al. 2016, arXiv 1509.00519, equation 8).
        chunk_rows: samples times examples that are decoded at a time, which limits memory; a chunk has at least two
            samples. The result does not depend on it.
        all_reduce_sum: sums a tensor over all ranks; None for a single process.
        log_jacobian_nats: how much larger -log p of the discrete example is than nll_nats: log |dy/dx| of the map from
            the model's x to unit-wide bins y, as 64 log 17 for dequantised digits; 0 for binary pixels; None: no bits,
            unless the model's likelihood scores the discrete values themselves (its ``is_discrete``).
        event_numel: number of dimensions that bits are counted for; None: no bits.

    Raises:
        ValueError: there are no examples, or num_samples or chunk_rows is below 1.
    """
    if num_samples < 1 or chunk_rows < 1:
        raise ValueError(f"evaluate: num_samples and chunk_rows must be at least 1, got {num_samples} and {chunk_rows}")
    was_training = model.training
    model.eval()
    try:
        parts = (evaluation_part(model, keyed, num_samples=num_samples, chunk_rows=chunk_rows) for keyed in batches)
        return combine_parts(
            model,
            parts,
            num_samples=num_samples,
            all_reduce_sum=all_reduce_sum,
            log_jacobian_nats=log_jacobian_nats,
            event_numel=event_numel,
        )
    finally:
        model.train(was_training)


@torch.no_grad()
def evaluation_part(
    model: nn.Module, keyed: KeyedBatch, *, num_samples: int = 1, chunk_rows: int = 4096
) -> dict[str, Tensor]:
    """Evaluate consecutive examples; `combine_parts` makes an `Evaluation` of the parts of a data set.

    Args:
        model: as for `evaluate`, in evaluation mode.
        keyed: the examples and their key.
        num_samples: as for `evaluate`.
        chunk_rows: as for `evaluate`.

    Returns:
        ``sums`` [7] float64: sums over the examples of 1, nll, its square, rate, distortion, penalty, and of 1 if there
        is a penalty; and the tensors of `latent_part`.
    """
    able = AnyModel(model)
    scored = _score(able, keyed, _usable_samples(able, num_samples), chunk_rows)
    nll, rate, distortion = (t.double() for t in (scored.nll, scored.rate, scored.distortion))
    one, has_penalty = torch.ones_like(nll), scored.penalty is not None
    penalty = torch.zeros_like(nll) if scored.penalty is None else scored.penalty.double()
    sums = torch.stack((one, nll, nll.square(), rate, distortion, penalty, one * has_penalty)).sum(1)
    return {"sums": sums, **(latent_part(able, keyed) if able.estimates_elbo else {})}


@torch.no_grad()
def combine_parts(
    model: nn.Module,
    parts: Iterable[Mapping[str, Tensor]],
    *,
    num_samples: int = 1,
    all_reduce_sum: Reduce | None = None,
    log_jacobian_nats: float | None = None,
    event_numel: int | None = None,
) -> Evaluation:
    """Add the results of `evaluation_part` in their order; the other arguments are those of `evaluate`.

    Raises:
        ValueError: there are no examples.
    """
    able = AnyModel(model)
    reduce = all_reduce_sum if all_reduce_sum is not None else _identity
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    sums, moments = torch.zeros(7, dtype=torch.float64, device=device), LatentMoments()
    for part in parts:
        sums += part["sums"].to(device)
        moments.add_part(part)
    totals = reduce(sums)
    num_examples = int(totals[0].item())
    if num_examples == 0:
        raise ValueError(
            "evaluate: batches must contain at least one example over all ranks, got 0; check the size of the data"
        )
    num_samples = _usable_samples(able, num_samples)
    nll, nll_square, rate, distortion, mean_penalty, share_with_penalty = (totals[1:] / num_examples).tolist()
    penalty = mean_penalty if share_with_penalty else None
    if not able.estimates_elbo:
        found = {able.distortion_name: distortion, "penalty": penalty}
        return Evaluation(num_examples=num_examples, num_samples=num_samples, **found)
    use = moments.reduce(num_examples, reduce, device)
    return Evaluation(
        num_examples=num_examples,
        num_samples=num_samples,
        elbo_nats=-(rate + distortion),
        nll_nats=nll,
        nll_standard_error_nats=math.sqrt(max(nll_square - nll * nll, 0.0) / num_examples),
        rate_nats=rate,
        distortion_nats=distortion,
        bits_per_dim=_bits_per_dim(nll, _log_jacobian(able, log_jacobian_nats), event_numel),
        penalty=penalty,
        **(asdict(use) if use is not None else {}),
    )


def _usable_samples(model: AnyModel, num_samples: int) -> int:
    return num_samples if model.estimates_elbo and model.takes_draw else 1


@torch.no_grad()
def scores(
    model: nn.Module, batches: Iterable[KeyedBatch], *, num_samples: int = 1, chunk_rows: int = 4096
) -> Iterator[Tensor]:
    """Yield the negative ELBO of each example, or with several samples the negative bound: [B] float64 nats.

    For a model without an ELBO, it is the distortion in its unit. The result is the same at every call, for all batches
    and chunks: the noise is a function of the example.

    Args:
        model: as for `evaluate`, in evaluation mode.
        batches: records with ``batch`` and ``key``.
        num_samples: K samples per example.
        chunk_rows: as for `evaluate`.

    Raises:
        ValueError: several samples of a model without an ELBO, or whose forward has no draw.
    """
    able = AnyModel(model)
    if num_samples > 1:
        able.require_elbo(f"be scored with num_samples={num_samples}")
        able.require_draw(f"be scored with num_samples={num_samples}")
    for keyed in batches:
        scored = _score(able, keyed, num_samples, chunk_rows)
        yield (scored.nll if able.estimates_elbo else scored.distortion).double()


@dataclass(frozen=True)
class _Scored:
    """Per example, [B]: negative bound, rate, mean distortion and penalty."""

    nll: Tensor
    rate: Tensor
    distortion: Tensor
    penalty: Tensor | None


def _score(model: AnyModel, keyed: KeyedBatch, num_samples: int, chunk_rows: int) -> _Scored:
    """Compute the fields of `_Scored`; rate and penalty are those of one sample."""
    single = model.terms(keyed, Draw(evaluation=True))
    if num_samples == 1:
        return _Scored(single.rate + single.distortion, single.rate, single.distortion, single.penalty)
    log_weights, distortion = [], torch.zeros_like(single.distortion, dtype=torch.float64)
    for first_sample, num in _chunks(num_samples, chunk_rows // max(len(keyed.batch), 1)):
        terms = model.terms(keyed, Draw(num_samples=num, first_sample=first_sample, evaluation=True))
        # K numbers per example are stored, not K images, so that the mean does not depend on the chunks.
        log_weights.append(-(terms.rate + terms.distortion).double())
        distortion += terms.distortion.double().sum(0)
    return _Scored(-log_mean_exp(torch.cat(log_weights)), single.rate, distortion / num_samples, single.penalty)


def _chunks(num_samples: int, largest: int) -> Iterator[tuple[int, int]]:
    """(first, number) of near-equal chunks of the samples, none of one sample, which would use the closed form."""
    num_chunks = max(1, min(math.ceil(num_samples / max(largest, 1)), num_samples // 2))
    edges = [num_samples * i // num_chunks for i in range(num_chunks + 1)]
    for first, stop in pairwise(edges):
        yield first, stop - first


def _bits_per_dim(nll_nats: float, log_jacobian_nats: float | None, event_numel: int | None) -> float | None:
    if log_jacobian_nats is None or event_numel is None:
        return None
    return (nll_nats + log_jacobian_nats) / (event_numel * math.log(2))


def _log_jacobian(model: AnyModel, of_data: float | None) -> float | None:
    """Return the correction to a log probability of the discrete data; None if it is not defined.

    It is not defined for a density of binary pixels, nor for a probability of pixels with added noise.
    """
    if model.likelihood is not None and model.likelihood.is_discrete:
        return 0.0
    support = support_of(model.module)
    return None if support is not None and of_data is not None and support.is_density != (of_data > 0) else of_data


def _identity(tensor: Tensor) -> Tensor:
    return tensor
