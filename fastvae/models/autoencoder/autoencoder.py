"""The deterministic autoencoder: a baseline for VAEs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastvae.models.vae.vae import as_batch, given
from fastvae.records import Batch, DistortionUnit, Draw, VAETerms


class AutoEncoder(nn.Module):
    """Encoder and decoder trained by squared error; no noise, no prior, no likelihood.

    It has a VAE's ``forward``, so that the same loop trains it: the rate is 0 and the distortion the squared error of
    each example, summed over its pixels. It estimates no ELBO.

    Args:
        encoder: from x [B, ...] to a code [B, D], such as `fastvae.nn.MLP`. The mean of a pair (mu, logvar) is the
            code, but the other head then has no gradient, and DDP requires one for every parameter.
        decoder: from the code [B, D] to a reconstruction [B, ...].
    """

    estimates_elbo = False
    has_rate = False
    distortion_unit: DistortionUnit = "squared error"
    latent_shape: tuple[int, ...] | None = None
    draws_at_temperature = False

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def encode(self, batch: Batch | Tensor) -> Tensor:
        """The code of each example, [B, D]."""
        batch = as_batch(batch)
        code = self.encoder(batch.x, *given(batch.condition))
        return code[0] if isinstance(code, tuple) else code

    def decode(self, z: Tensor, batch: Batch | Tensor | None = None, *, condition: Tensor | None = None) -> Tensor:
        """The reconstruction [B, ...] of each code [B, D], under the batch's condition or ``condition`` [B, C]."""
        if condition is None and isinstance(batch, Batch):
            condition = batch.condition
        return self.decoder(z, *given(condition))

    @torch.no_grad()
    def generate(self, z: Tensor, condition: Tensor | None = None, noise_key: Tensor | None = None) -> Tensor:
        """The reconstruction [N, ...] of each code [N, D]; no noise is used."""
        return self.decode(z, condition=None if condition is None else condition.expand(len(z), -1))

    def forward(self, batch: Batch | Tensor, noise_key: Tensor | None = None, draw: Draw = Draw()) -> VAETerms:
        """The code, a rate of 0 and the squared error, each [B]; the noise key is not read.

        Raises:
            ValueError: several samples or a rate per dimension are requested; the model is deterministic.
        """
        self.refuse_draws(draw)
        batch = as_batch(batch)
        code = self.encode(batch)
        target, reconstruction = batch.target.flatten(1), self.decode(code, batch)
        error = (reconstruction.flatten(1).float() - target.float()).square()
        if batch.mask is not None:
            error = torch.where(batch.mask.expand_as(batch.target).flatten(1).bool(), error, 0.0)
        distortion = error.sum(1)
        return VAETerms(
            z=code,
            rate=torch.zeros_like(distortion),
            distortion=distortion,
            reconstruction=reconstruction if draw.reconstruction else None,
        )

    def refuse_draws(self, draw: Draw) -> None:
        """Check that one sample and no rate per dimension are requested.

        Raises:
            ValueError: they are, of a deterministic model.
        """
        if draw.num_samples != 1 or draw.per_dimension:
            raise ValueError(
                f"{type(self).__name__}: is deterministic and has no rate, got num_samples={draw.num_samples},"
                f" per_dimension={draw.per_dimension}; use num_samples=1 and no free bits, or a VAE"
            )

    @torch.no_grad()
    def reconstruct(self, batch: Batch | Tensor) -> Tensor:
        """Encode and decode each example, [B, ...]."""
        batch = as_batch(batch)
        return self.generate(self.encode(batch), batch.condition)
