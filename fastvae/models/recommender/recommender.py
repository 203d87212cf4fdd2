"""Recommenders: Mult-VAE, and its deterministic twin Mult-DAE, on counts of items."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from fastvae.distributions import DiagonalGaussian
from fastvae.models.autoencoder.autoencoder import AutoEncoder
from fastvae.models.vae.vae import VAE, as_batch, given
from fastvae.records import Batch, DistortionUnit, Draw, VAETerms


class MultVAE(VAE):
    """Mult-VAE (Liang et al. 2018, arXiv 1802.05814): a VAE with a multinomial likelihood and input dropout.

    In training the batch's key decides which items of x are dropped for the encoder; the likelihood scores all.
    In evaluation nothing is dropped.

    Args:
        encoder: `fastvae.nn.BagEncoder`, or any that takes (x, condition, noise_key).
        decoder: from z [N, D] to logits [N, V].
        likelihood: `fastvae.likelihoods.Multinomial`.
        latent_dim: D.
    """

    def encode(self, batch: Batch | Tensor) -> DiagonalGaussian:
        """The posterior of each example; in training without the dropped items."""
        batch = as_batch(batch)
        mu, logvar = self.encoder(batch.x, batch.condition, batch.dropout_key)
        return DiagonalGaussian(mu, logvar)


class MultDAE(AutoEncoder):
    """Mult-DAE (Liang et al. 2018, section 2.3): code and decoder without noise or prior, the same likelihood.

    Its distortion is in nats, but not a bound on a likelihood, which would include a rate.

    Args:
        encoder: `fastvae.nn.BagEncoder` with one head.
        decoder, likelihood: as of `MultVAE`.
        latent_dim: not used; builders pass it to every model.
    """

    distortion_unit: DistortionUnit = "nats"

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, likelihood: nn.Module, latent_dim: int | None = None
    ) -> None:
        super().__init__(encoder, decoder)
        self.likelihood = likelihood

    def encode(self, batch: Batch | Tensor) -> Tensor:
        """The code of each example, [B, D], in (-1, 1)."""
        batch = as_batch(batch)
        return torch.tanh(self.encoder(batch.x, batch.condition, batch.dropout_key))

    @torch.no_grad()
    def generate(self, z: Tensor, condition: Tensor | None = None, noise_key: Tensor | None = None) -> Tensor:
        """The probability of each item [N, V] for each code [N, D]; no noise is used."""
        return self.likelihood(self.decoder(z, *given(condition))).mean

    def forward(self, batch: Batch | Tensor, noise_key: Tensor | None = None, draw: Draw = Draw()) -> VAETerms:
        """The code, a rate of 0 and the multinomial's -log p, each [B]; the key decides which items are dropped."""
        self.refuse_draws(draw)
        batch = as_batch(batch)
        if self.training:
            batch = replace(batch, dropout_key=noise_key)
        code = self.encode(batch)
        likelihood = self.likelihood(self.decode(code, batch))
        distortion = -likelihood.log_prob(batch.target, mask=batch.mask)
        return VAETerms(
            z=code,
            rate=torch.zeros_like(distortion),
            distortion=distortion,
            reconstruction=likelihood.mean if draw.reconstruction else None,
        )
