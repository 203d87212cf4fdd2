"""The variational autoencoder: any encoder, any decoder, a likelihood, and the prior N(0, I)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from fastvae import ops
from fastvae.distributions import DiagonalGaussian
from fastvae.likelihoods import BoundLikelihood
from fastvae.records import Batch, VAETerms


class VAE(nn.Module):
    """A variational autoencoder (Kingma and Welling 2013, arXiv 1312.6114).

    Args:
        encoder: from x [B, ...] to the pair (mu, logvar), each [B, D]. It is called with (x, condition [B, C]) where
            the batch has a condition.
        decoder: from z [N, D] to the likelihood's parameters [N, ...]; K samples arrive as N = K * B rows, and with
            them, where there is one, the condition [N, C].
        likelihood: from those parameters to p(x|z), such as `fastvae.Bernoulli()` or `fastvae.Gaussian()`.
        latent_dim: D, which `sample` needs; taken from ``encoder.latent_dim`` where the encoder has one.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, likelihood: nn.Module, latent_dim: int | None = None
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        known = getattr(encoder, "latent_dim", None)
        self.latent_dim: int | None = latent_dim if latent_dim is not None else known

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
            z: [B, D], or [K, B, D], which the decoder sees as [K * B, D].
            batch: what the decoder may read beside z: this one reads its condition, a subclass's may read more.
            condition: [B, C], where there is no batch to take it from.

        Returns:
            The bound likelihood: its ``mean`` is [B, ...] or [K, B, ...].
        """
        if condition is None and isinstance(batch, Batch):
            condition = batch.condition
        if condition is not None and z.dim() > 2:
            condition = condition.expand(*z.shape[:-1], -1).flatten(0, -2)
        output = self.decoder(z.flatten(0, -2), *given(condition))
        return self.likelihood(output.unflatten(0, z.shape[:-1]))

    def forward(
        self,
        batch: Batch | Tensor,
        noise_key: Tensor,
        num_samples: int = 1,
        *,
        first_sample: int = 0,
        evaluation: bool = False,
        per_dimension: bool = False,
    ) -> VAETerms:
        """The rate and the distortion of each example, in nats: the one entry that DDP and the like wrap.

        Args:
            batch: a record, or x [B, ...] itself, which then is the target too.
            noise_key: int64 [3], see `fastvae.noise_key`.
            num_samples: K draws of z for each example.
            first_sample: index of the first draw, so that chunks of one large K continue each other.
            evaluation: draw from the evaluation noise, which training never sees.
            per_dimension: also give ``rate_per_dimension``, from the same pass; with K = 1 only.

        Returns:
            With K = 1 the rate in closed form, [B]; with more the rate of each draw, log q - log p, [K, B].
        """
        batch = as_batch(batch)
        if self.training and not evaluation:
            batch = replace(batch, dropout_key=noise_key)
        posterior = self.encode(batch)
        sample = 0 if num_samples > 1 else first_sample
        stream = ops.stream(ops.Use.LATENT, ops.LatentSite.Z, sample, evaluation)
        rate_per_dimension = None
        if num_samples == 1 and per_dimension:
            z, rate, rate_per_dimension = posterior.rsample_kl_per_dimension(noise_key, stream=stream)
        elif num_samples == 1:
            z, rate = posterior.rsample_kl(noise_key, stream=stream)
        else:
            z, rate = posterior.rsample_log_ratio(noise_key, num_samples, stream=stream, first_sample=first_sample)
        log_likelihood = self.decode(z, batch).log_prob(batch.target, mask=batch.mask)
        return VAETerms(
            z=z,
            rate=rate,
            distortion=-log_likelihood.reshape(rate.shape),
            rate_per_dimension=rate_per_dimension,
        )

    @torch.no_grad()
    def generate(self, z: Tensor, condition: Tensor | None = None, noise_key: Tensor | None = None) -> Tensor:
        """What a person would look at: the mean of p(x|z) for each latent; a subclass may decode otherwise.

        Args:
            z: [N, D].
            condition: [N, C], or [C] for all; None for a model that takes none.
            noise_key: int64 [3], for a subclass that draws; this one draws nothing.

        Returns:
            [N, ...], as examples are.
        """
        return self.decode(z, condition=_for_each(condition, len(z))).mean

    @torch.no_grad()
    def reconstruct(self, batch: Batch | Tensor) -> Tensor:
        """What `generate` makes of the posterior's mean, [B, ...]; no noise is drawn."""
        batch = as_batch(batch)
        return self.generate(self.encode(batch).mu, batch.condition)

    def draw_prior(self, num: int, noise_key: Tensor) -> Tensor:
        """Latents from the prior N(0, I), [num, D]; a subclass with another prior draws from that.

        Raises:
            ValueError: the model does not know its latent dimension.
        """
        if self.latent_dim is None:
            raise ValueError(
                "VAE.sample: latent_dim must be known, got None; build the model with VAE(..., latent_dim=D)"
            )
        stream = ops.stream(ops.Use.GENERATION, ops.GenerationSite.PRIOR)
        return ops.philox_normal(noise_key, num, self.latent_dim, stream=stream)

    @torch.no_grad()
    def sample(
        self, num: int, noise_key: Tensor, *, condition: Tensor | None = None, draw_pixels: bool = False
    ) -> Tensor:
        """New examples: z from the prior, then `generate`, [num, ...].

        Args:
            num: how many.
            noise_key: int64 [3], see `fastvae.noise_key`; row i has the noise of row first_row + i.
            condition: [num, C], or [C] for all; None for a model that takes none.
            draw_pixels: draw x from p(x|z) instead.
        """
        z = self.draw_prior(num, noise_key)
        if draw_pixels:
            return self.decode(z, condition=_for_each(condition, num)).sample(noise_key)
        return self.generate(z, condition, noise_key)


def given(condition: Tensor | None) -> tuple[Tensor, ...]:
    """The condition as arguments: a network that takes none needs no second parameter."""
    return () if condition is None else (condition,)


def _for_each(condition: Tensor | None, num: int) -> Tensor | None:
    return condition.expand(num, -1) if condition is not None else None


def as_batch(batch: Batch | Tensor) -> Batch:
    """The record itself, or a plain tensor x [B, ...] as the record of which x is input and target."""
    return Batch(x=batch, target=batch) if isinstance(batch, Tensor) else batch
