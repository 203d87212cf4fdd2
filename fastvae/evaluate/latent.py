"""Latent diagnostics: which dimensions carry information about x, and how much."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fastvae import ops
from fastvae.distributions import DiagonalGaussian
from fastvae.generative import AnyModel
from fastvae.records import HasMean, KeyedBatch

ACTIVE_VARIANCE = 0.01  # Burda et al. 2016 (arXiv 1509.00519, section 5.2): below it a dimension is unused
_MAX_ERROR = 1e-2  # nats: round-off that the mutual information may have
_MAX_STANDARD_ERRORS = 4  # by which an estimate of a number that is never negative may be below 0
INFORMATION_EXAMPLES = 1024  # sample size of the mutual information, whose estimate cannot exceed its log


@dataclass(frozen=True, kw_only=True)
class LatentUse:
    """Diagnostics of the latent dimensions, over all ranks' examples."""

    latent_units: int
    """D, the number of elements of one latent."""
    active_units: int
    """Number of dimensions whose posterior mean varies over the data."""
    kl_per_dimension_nats: tuple[float, ...] | None = None
    """KL to the prior, mean over the examples; None if q(z|x) is not Gaussian or the prior has no closed form."""
    mutual_information_nats: float | None = None
    """Mutual information of x and z under q, see `mutual_information`. None if q(z|x) is not Gaussian or the estimate
    has no meaning."""
    mutual_information_limit_nats: float | None = None
    """Log of the number of examples of the estimate, which the estimate cannot exceed."""


class LatentMoments:
    """Sums over posteriors, in float64, so that they can be added over any split of a data set."""

    def __init__(self) -> None:
        self.sums: Tensor | None = None  # [3, D]: sums of mu, of mu squared and of the KL; None before the first batch
        self.seed = 0
        self._is_gaussian = self._has_kl = True
        self._first: list[tuple[int, Tensor]] = []  # (index, [B, 2 D] mu and logvar) of the data set's first examples

    def add_part(self, part: Mapping[str, Tensor]) -> None:
        """Add a part of the data set, as `latent_part` returns it, after the parts before it."""
        if "about" not in part:
            return
        seed, index, is_gaussian, has_kl = part["about"].tolist()
        self._is_gaussian &= bool(is_gaussian)
        self._has_kl &= bool(has_kl)
        if "moments" in part:
            self._add(part["moments"])
        if is_gaussian:
            self.seed = seed
        if "first" in part:
            self._first.append((index, part["first"]))

    def add(self, mu: Tensor, kl_per_dimension: Tensor | None = None) -> None:
        """Add the means of examples, [B, D], and the sum of their KL, [D]."""
        self._add(_moments(mu, kl_per_dimension))

    def _add(self, sums: Tensor) -> None:
        self.sums = sums if self.sums is None else self.sums + sums.to(self.sums.device)

    def reduce(
        self, num_examples: int, all_reduce_sum: Callable[[Tensor], Tensor], device: torch.device
    ) -> LatentUse | None:
        """Return the result over all ranks, which call it together; None if no rank has a posterior.

        D is unknown on a rank without examples, so it is exchanged first.
        """
        known = 0 if self.sums is None else self.sums.shape[1]
        flags = [known, known > 0, not self._is_gaussian, not self._has_kl]
        mine = torch.tensor(flags, dtype=torch.float64, device=device)
        num_dims, num_knowing, num_others, num_without_kl = all_reduce_sum(mine).tolist()
        if not num_knowing:
            return None
        num_units = round(num_dims / num_knowing)
        zeros = torch.zeros(3, num_units, dtype=torch.float64, device=device)
        own = zeros if self.sums is None else self.sums.to(device)
        sums = all_reduce_sum(own)
        active = active_units(sums, num_examples)
        if num_others:
            return LatentUse(latent_units=num_units, active_units=active)
        rows = torch.zeros(min(num_examples, INFORMATION_EXAMPLES), 2 * num_units, dtype=torch.float64, device=device)
        for index, values in self._first:
            rows[index : index + len(values)] = values
        seed = all_reduce_sum(torch.tensor([self.seed if known else 0], device=device)) // round(num_knowing)
        mu, logvar = all_reduce_sum(rows).chunk(2, dim=1)
        information = mutual_information(mu, logvar, ops.noise_key(int(seed), device=device))
        return LatentUse(
            latent_units=num_units,
            active_units=active,
            kl_per_dimension_nats=None if num_without_kl else tuple((sums[2] / num_examples).tolist()),
            mutual_information_nats=information,
            mutual_information_limit_nats=None if information is None else math.log(len(rows)),
        )


def latent_part(model: AnyModel, keyed: KeyedBatch) -> dict[str, Tensor]:
    """The posteriors of consecutive examples, reduced to what `LatentMoments` adds; empty if the model has no encoder.

    Returns:
        ``about`` int64 [4]: seed, index of the first example, whether q(z|x) is Gaussian, whether its KL is known;
        ``moments`` [3, D] float64: sums of mu, of mu squared and of the KL; ``first`` [B, 2 D] float64: mu and logvar
        of those among the data set's first examples.
    """
    if not model.can("encode"):
        return {}
    posterior = model.encode(keyed.batch)
    seed, _, index = keyed.key.tolist()
    if not isinstance(posterior, DiagonalGaussian):
        part = {"about": torch.tensor([seed, index, False, True])}
        return {**part, "moments": _moments(posterior.mu.flatten(1))} if isinstance(posterior, HasMean) else part
    kl_per_dimension = model.kl_per_dimension(posterior)
    part = {
        "about": torch.tensor([seed, index, True, kl_per_dimension is not None]),
        "moments": _moments(posterior.mu.flatten(1), kl_per_dimension),
    }
    if index < INFORMATION_EXAMPLES:
        rows = torch.cat((posterior.mu.flatten(1), posterior.logvar.flatten(1)), dim=1).double()
        part["first"] = rows[: INFORMATION_EXAMPLES - index]
    return part


def _moments(mu: Tensor, kl_per_dimension: Tensor | None = None) -> Tensor:
    mu = mu.double()
    kl = torch.zeros_like(mu[:0].sum(0)) if kl_per_dimension is None else kl_per_dimension.double()
    return torch.stack((mu.sum(0), mu.square().sum(0), kl))


def active_units(sums: Tensor, num_examples: int) -> int:
    """Return the number of dimensions whose posterior means have a variance above `ACTIVE_VARIANCE`.

    Args:
        sums: [>= 2, D] float64, sums of mu and of mu squared over all examples (`LatentMoments`).
        num_examples: number of examples.
    """
    mean, mean_square = sums[:2] / num_examples
    return int((mean_square - mean.square() > ACTIVE_VARIANCE).sum())


def mutual_information(mu: Tensor, logvar: Tensor, noise_key: Tensor) -> float | None:
    """Estimate I(x; z) = E[log q(z|x) - log q(z)] in nats (Hoffman and Johnson 2016, "ELBO surgery").

    The aggregate q(z) is the mixture of the M given posteriors, and one sample of each is used. The estimate is at most
    log M, so that a value near log M is a lower bound; if all posteriors are the same it is exactly 0.

    Args:
        mu, logvar: [M, D] float64, the posteriors of M examples.
        noise_key: int64 [3], see `fastvae.noise_key`: key of the first example.

    Returns:
        The estimate, or None if it has no meaning: the means are so large in units of the standard deviations that
        float64 cannot represent the distances, or it is negative beyond its standard error.
    """
    stream = ops.stream(ops.Use.LATENT, ops.LatentSite.Z, evaluation=True)
    noise = ops.philox_normal(noise_key, *mu.shape, stream=stream)
    z = mu + torch.exp(0.5 * logvar) * noise
    weight = torch.exp(-logvar)
    # log q(z_i|x_j) up to a constant, [M, M]: the square multiplied out, so that it is two matrix products
    square = z.square() @ weight.T - 2 * z @ (mu * weight).T + (mu.square() * weight + logvar).sum(1)
    log_q = -0.5 * square
    information = log_q.diagonal() - torch.logsumexp(log_q, dim=1) + math.log(len(mu))
    exact = noise.double().square().sum(1) + logvar.sum(1)  # the diagonal without cancellation
    error = float((square.diagonal() - exact).abs().max())
    mean, standard_error = float(information.mean()), float(information.std(correction=0)) / math.sqrt(len(mu))
    is_meaningful = error < _MAX_ERROR and mean >= -_MAX_STANDARD_ERRORS * standard_error - _MAX_ERROR
    return mean if math.isfinite(mean) and is_meaningful else None
