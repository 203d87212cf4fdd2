"""The variational autoencoder: any encoder, any decoder, a likelihood and a prior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from fastvae import ops
from fastvae.distributions import DiagonalGaussian, Prior, StandardNormal
from fastvae.distributions.priors import as_shape
from fastvae.likelihoods import BoundLikelihood, PixelsInOrder
from fastvae.models.vae import exploring
from fastvae.records import Batch, DistortionUnit, Draw, VAETerms


@runtime_checkable
class _NamesLatentDim(Protocol):
    """An encoder with an attribute for its number of latent dimensions."""

    latent_dim: int


class VAE(nn.Module):
    """A variational autoencoder (Kingma and Welling 2013, arXiv 1312.6114).

    Args:
        encoder: from x [B, ...] to the pair (mu, logvar), each [B, D] or of another shape [B, ...]. It is called with
            (x, condition [B, C]) if the batch has a condition.
        decoder: from z [N, ...] to the likelihood's parameters [N, ...]; K samples arrive as N = K * B rows, and with
            them, where there is one, the condition [N, C].
        likelihood: from those parameters to p(x|z), such as `fastvae.Bernoulli()` or `fastvae.Gaussian()`.
        latent_dim: D, or the shape of one latent such as (4, 8, 8), which `sample` requires; by default that of the
            prior, or of ``encoder.latent_dim``, where one of them has it. Latents of more than one dimension must have
            it here or in the prior.
        prior: p(z), see `fastvae.distributions.Prior`: both the KL and samples follow it; None is N(0, I).

    Raises:
        TypeError: the prior is not a `Prior`.
        ValueError: prior and ``latent_dim`` have different shapes.
    """

    estimates_elbo = True
    distortion_unit: DistortionUnit = "nats"
    draws_at_temperature = False
    has_rate = True

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: nn.Module,
        latent_dim: int | tuple[int, ...] | None = None,
        *,
        prior: Prior | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        if not isinstance(likelihood, nn.Module):
            raise TypeError(f"VAE: likelihood must be a module, such as fastvae.Gaussian(), got {likelihood!r:.60}")
        self.likelihood = likelihood
        shape = as_shape(latent_dim)
        if prior is not None and not isinstance(prior, Prior):
            raise TypeError(
                f"VAE: prior must be a fastvae.distributions.Prior, got {type(prior).__name__}; subclass it"
            )
        if shape is None and prior is not None:
            shape = prior.latent_shape
        if shape is None and isinstance(encoder, _NamesLatentDim):
            shape = as_shape(encoder.latent_dim)
        if prior is None or (type(prior) is StandardNormal and prior.latent_shape is None):
            prior = StandardNormal(shape)
        if prior.latent_shape != shape:
            raise ValueError(f"VAE: the prior must have the latents' shape {shape}, got {prior.latent_shape}")
        self.prior = prior
        self.latent_shape: tuple[int, ...] | None = shape

    def __init_subclass__(cls) -> None:
        """Check that a subclass does not override the prior of samples but not of the KL.

        Raises:
            TypeError: the class overrides `draw_prior` only.
        """
        super().__init_subclass__()
        if "draw_prior" in cls.__dict__ and cls.forward is VAE.forward:
            raise TypeError(
                f"{cls.__name__}: draw_prior may be overridden together with forward only, because the KL is that to"
                " self.prior; give VAE(..., prior=...) a fastvae.distributions.Prior"
            )

    @property
    def latent_dim(self) -> int | None:
        """D, the number of latent dimensions: the elements of one latent; None if unknown."""
        return None if self.latent_shape is None else math.prod(self.latent_shape)

    def set_latent_shape(self, shape: tuple[int, ...]) -> None:
        """Set the shape of one latent in a model that was built without ``latent_dim``.

        Args:
            shape: shape of one latent, such as (20,) or (4, 8, 8).

        Raises:
            ValueError: the model has another shape.
        """
        if self.latent_shape not in (None, shape):
            raise ValueError(f"VAE: the latent shape is {list(self.latent_shape or ())}, got {list(shape)}")
        self.latent_shape = self.prior.latent_shape = shape

    def encode(self, batch: Batch | Tensor) -> DiagonalGaussian:
        """The posterior q(z|x) of each example of ``batch`` (a record, or x [B, ...] itself)."""
        batch = as_batch(batch)
        mu, logvar = self.encoder(batch.x, *given(batch.condition))
        return DiagonalGaussian(mu, logvar)

    def decode(
        self, z: Tensor, batch: Batch | Tensor | None = None, *, condition: Tensor | None = None
    ) -> BoundLikelihood:
        """The likelihood p(x|z) of each latent.

        Args:
            z: [B, ...], or [K, B, ...], which the decoder reads as [K * B, ...].
            batch: batch with the condition that the decoder reads; a subclass may read more.
            condition: [B, C], if there is no batch.

        Returns:
            The bound likelihood: its ``mean`` is [B, ...] or [K, B, ...].
        """
        if condition is None and isinstance(batch, Batch):
            condition = batch.condition
        samples = z.shape[: z.dim() - self._num_latent_axes]  # (B,) or (K, B)
        if condition is not None and len(samples) > 1:
            condition = condition.expand(*samples, -1).flatten(0, -2)
        output = self.decoder(z.flatten(0, len(samples) - 1), *given(condition))
        return self.likelihood(output.unflatten(0, samples))

    def forward(self, batch: Batch | Tensor, noise_key: Tensor, draw: Draw = Draw()) -> VAETerms:
        """The rate and the distortion of each example, in nats: the one entry that DDP and the like wrap.

        Args:
            batch: a record, or x [B, ...] itself, which is then also the target.
            noise_key: int64 [3], see `fastvae.noise_key`.
            draw: samples, noise and additional outputs, see `fastvae.Draw`.

        Returns:
            With K = 1 the rate [B], in closed form if the prior has one; with more the rate of each draw,
            log q - log p, [K, B].

        Raises:
            ValueError: the encoder's latents have another shape than the model's.
        """
        batch = as_batch(batch)
        if self.training and not draw.evaluation:
            batch = replace(batch, dropout_key=noise_key)
        posterior = self.encode(batch)
        self._check_shape(posterior.mu)
        z, rate, rate_per_dimension = self.prior.rsample_rate(
            posterior,
            noise_key,
            num_samples=draw.num_samples,
            first_sample=draw.first_sample,
            evaluation=draw.evaluation,
            per_dimension=draw.per_dimension,
        )
        likelihood = self.decode(z, batch)
        return VAETerms(
            z=z,
            rate=rate,
            distortion=-likelihood.log_prob(batch.target, mask=batch.mask).reshape(rate.shape),
            rate_per_dimension=rate_per_dimension,
            reconstruction=likelihood.mean if draw.reconstruction else None,
        )

    def kl_per_dimension(self, posterior: DiagonalGaussian) -> Tensor | None:
        """KL to the prior of each latent dimension, summed over the examples, [D] nats; None without a closed form."""
        return self.prior.kl_per_dimension(posterior)

    @torch.no_grad()
    def generate(self, z: Tensor, condition: Tensor | None = None, noise_key: Tensor | None = None) -> Tensor:
        """Return the mean of p(x|z) for each latent; a subclass may decode in another way.

        Of a likelihood whose pixels depend on each other, examples are drawn in order if there is a key.

        Args:
            z: [N, ...].
            condition: [N, C], or [C] for all; None for a model without conditions.
            noise_key: int64 [3], for likelihoods and subclasses that draw; otherwise not used.

        Returns:
            [N, ...], as examples are.
        """
        likelihood = self.decode(z, condition=_for_each(condition, len(z)))
        if noise_key is not None and isinstance(likelihood, PixelsInOrder):
            return likelihood.sample(noise_key)
        return likelihood.mean

    @torch.no_grad()
    def reconstruct(self, batch: Batch | Tensor) -> Tensor:
        """Return `generate` of the posterior mean, [B, ...]; no noise is used."""
        batch = as_batch(batch)
        return self.generate(self.encode(batch).mu, batch.condition)

    def draw_prior(self, num: int, noise_key: Tensor) -> Tensor:
        """Latents from the prior, [num, ...].

        Raises:
            ValueError: the latent shape is unknown.
        """
        return self.prior.rsample(num, noise_key)

    @torch.no_grad()
    def sample(
        self,
        num: int,
        noise_key: Tensor | None = None,
        *,
        seed: int = 0,
        condition: Tensor | None = None,
        draw_pixels: bool = False,
    ) -> Tensor:
        """New examples: z from the prior, then `generate`, [num, ...].

        Args:
            num: number of examples.
            noise_key: int64 [3], see `fastvae.noise_key`; row i has the noise of row first_row + i. None makes one
                from the seed.
            seed: which examples, if there is no key; the same ones as ``LoadedRun.sample(num, seed=seed)``.
            condition: [num, C], or [C] for all; None for a model without conditions.
            draw_pixels: sample x from p(x|z) instead.
        """
        key = ops.noise_key(seed, device=self._weights_device) if noise_key is None else noise_key
        with exploring.evaluating(self):
            z = self.draw_prior(num, key)
            if draw_pixels:
                return self.decode(z, condition=_for_each(condition, num)).sample(key)
            return self.generate(z, condition, key)

    def interpolate(self, a: Batch | Tensor, b: Batch | Tensor, num: int = 9) -> Tensor:
        """Decoded points on the straight line between the mean latents of two examples, [num, ...].

        Args:
            a, b: one example each, x [...] without a batch dimension, or a record of one.
            num: the number of points, both ends included.
        """
        with exploring.evaluating(self):
            return exploring.interpolate(self, self._one(a), self._one(b), num)

    def traverse(
        self, x: Batch | Tensor, dims: Sequence[int] | None = None, *, num: int = 9, span: float = 3.0
    ) -> Tensor:
        """Decoded rows along latent dimensions through the mean latent of an example, [R, num, ...].

        Args:
            x: one example, as for `interpolate`.
            dims: R latent dimensions, by their flattened index; None is up to ten with the largest KL.
            num: examples per row.
            span: distance to either side in units of z, whose prior N(0, I) has standard deviation 1.
        """
        with exploring.evaluating(self):
            return exploring.traverse(self, self._one(x), dims, num, span)

    def score(self, x: Batch | Tensor, *, num_samples: int = 1, seed: int = 0) -> Tensor:
        """Minus the ELBO of each example or, with several samples, minus a tighter bound, [B] float64 nats.

        The noise is that of evaluation, so that row i of the test set scores as in ``LoadedRun.score``.

        Args:
            x: examples as the model reads them, [B, ...], or a record of them.
            num_samples: K samples of z for each example.
            seed: seed of the noise.
        """
        with exploring.evaluating(self):
            return exploring.score(self, as_batch(x).to(self._weights_device), num_samples, seed)

    @property
    def _weights_device(self) -> torch.device:
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    def _one(self, example: Batch | Tensor) -> Batch:
        """One example as a batch."""
        batch = as_batch(example.unsqueeze(0)) if isinstance(example, Tensor) else example
        if len(batch) != 1:
            raise ValueError(f"VAE: a record must have one example here, got {len(batch)}")
        return batch.to(self._weights_device)

    @property
    def _num_latent_axes(self) -> int:
        return 1 if self.latent_shape is None else len(self.latent_shape)

    def _check_shape(self, mu: Tensor) -> None:
        found = tuple(mu.shape[1:])
        if len(found) != self._num_latent_axes or (self.latent_shape is not None and found != self.latent_shape):
            known = "[D]" if self.latent_shape is None else list(self.latent_shape)
            raise ValueError(
                f"VAE: the encoder's latents must have the model's shape {known}, got {list(found)}; build the model"
                f" with VAE(..., latent_dim={found})"
            )


def given(condition: Tensor | None) -> tuple[Tensor, ...]:
    """The condition as arguments: a network that takes none needs no second parameter."""
    return () if condition is None else (condition,)


def _for_each(condition: Tensor | None, num: int) -> Tensor | None:
    return condition.expand(num, -1) if condition is not None else None


def as_batch(batch: Batch | Tensor) -> Batch:
    """The record itself, or a plain tensor x [B, ...] as the record of which x is input and target."""
    return Batch(x=batch, target=batch) if isinstance(batch, Tensor) else batch
