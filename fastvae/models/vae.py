"""The variational autoencoder: any encoder, any decoder, a likelihood, and the prior N(0, I)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastvae import ops
from fastvae.distributions import DiagonalGaussian
from fastvae.likelihoods import BoundLikelihood
from fastvae.records import Batch, VAETerms


class VAE(nn.Module):
    """A variational autoencoder (Kingma and Welling 2013, arXiv 1312.6114).

    Args:
        encoder: from x [B, ...] to the pair (mu, logvar), each [B, D].
        decoder: from z [N, D] to the likelihood's parameters [N, ...]; K samples arrive as N = K * B rows.
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
        mu, logvar = self.encoder(as_batch(batch).x)
        return DiagonalGaussian(mu, logvar)

    def decode(self, z: Tensor, batch: Batch | Tensor | None = None) -> BoundLikelihood:
        """The likelihood p(x|z) of each latent.

        Args:
            z: [B, D], or [K, B, D], which the decoder sees as [K * B, D].
            batch: what the decoder may read beside z; this one reads nothing, a subclass's may.

        Returns:
            The bound likelihood: its ``mean`` is [B, ...] or [K, B, ...].
        """
        output = self.decoder(z.flatten(0, -2))
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
        posterior = self.encode(batch)
        stream = ops.stream(ops.Use.LATENT, sample=0 if num_samples > 1 else first_sample, evaluation=evaluation)
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
    def reconstruct(self, batch: Batch | Tensor) -> Tensor:
        """The mean of p(x|z) at the posterior's mean, [B, ...]; no noise is drawn."""
        batch = as_batch(batch)
        return self.decode(self.encode(batch).mu, batch).mean

    @torch.no_grad()
    def sample(self, num: int, noise_key: Tensor, *, draw_pixels: bool = False) -> Tensor:
        """New examples: z from the prior, then the mean of p(x|z), [num, ...].

        Args:
            num: how many.
            noise_key: int64 [3], see `fastvae.noise_key`; row i has the noise of row first_row + i.
            draw_pixels: draw x from p(x|z) instead of giving its mean.

        Raises:
            ValueError: the model does not know its latent dimension.
        """
        if self.latent_dim is None:
            raise ValueError(
                "VAE.sample: latent_dim must be known, got None; build the model with VAE(..., latent_dim=D)"
            )
        z = ops.philox_normal(noise_key, num, self.latent_dim, stream=ops.stream(ops.Use.GENERATION))
        likelihood = self.decode(z)
        return likelihood.sample(noise_key) if draw_pixels else likelihood.mean


def as_batch(batch: Batch | Tensor) -> Batch:
    """The record itself, or a plain tensor x [B, ...] as the record of which x is input and target."""
    return Batch(x=batch, target=batch) if isinstance(batch, Tensor) else batch
