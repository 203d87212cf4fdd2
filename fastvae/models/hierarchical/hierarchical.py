"""The VAE with two stochastic layers of Burda et al. 2016 (arXiv 1509.00519)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastvae import ops
from fastvae.distributions import DiagonalGaussian, StandardNormal
from fastvae.models.vae.vae import VAE, as_batch
from fastvae.nn import MLPEncoder
from fastvae.records import Batch, Draw, VAETerms


class HierarchicalVAE(VAE):
    """``p(z2) p(z1|z2) p(x|z1)`` with ``q(z1|x) q(z2|z1)``: the prior of the lower layer is learned.

    `encode` returns and `generate` accepts the lower layer z1 [B, D1].

    Args:
        encoder: from x to mu and logvar of q(z1|x), [B, D1].
        decoder: from z1 to the likelihood's parameters.
        likelihood: p(x|z1).
        latent_dim: D1.
        top_encoder: from z1 [N, D1] to mu and logvar of q(z2|z1), [N, D2]; has ``latent_dim``.
        top_decoder: from z2 [N, D2] to mu and logvar of p(z1|z2), [N, D1].
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: nn.Module,
        latent_dim: int,
        *,
        top_encoder: MLPEncoder,
        top_decoder: MLPEncoder,
    ) -> None:
        super().__init__(encoder, decoder, likelihood, latent_dim)
        self.prior = StandardNormal(top_encoder.latent_dim)  # prior of z2
        self.top_encoder = top_encoder
        self.top_decoder = top_decoder

    def forward(self, batch: Batch | Tensor, noise_key: Tensor, draw: Draw = Draw()) -> VAETerms:
        """As `VAE.forward`; the rate is ``log q(z1|x) q(z2|z1) - log p(z1|z2) p(z2)`` of each sample, also for K = 1,
        as an unbiased estimate: there is no closed form, because z2 depends on z1.

        Raises:
            ValueError: a rate per dimension is requested, which a learned prior does not have.
        """
        if draw.per_dimension:
            raise ValueError("HierarchicalVAE: the rate per dimension is not defined; do not use free bits")
        batch = as_batch(batch)
        posterior = self.encode(batch)
        draws = {"num_samples": draw.num_samples, "first_sample": draw.first_sample}
        lower_stream = ops.stream(ops.Use.LATENT, ops.LatentSite.Z, evaluation=draw.evaluation)
        z1, lower = posterior.rsample_log_ratio(noise_key, stream=lower_stream, **draws)  # against N(0, I)
        top_mu, top_logvar = (t.unflatten(0, z1.shape[:2]) for t in self.top_encoder(z1.flatten(0, 1)))
        noise = self._top_noise(posterior.mu, noise_key, evaluation=draw.evaluation, **draws)
        z2 = top_mu + torch.exp(0.5 * top_logvar) * noise
        top = 0.5 * (z2.square() - noise.square() - top_logvar).float().sum(-1)  # log q(z2|z1) - log p(z2)
        mu, logvar = (t.unflatten(0, z1.shape[:2]) for t in self.top_decoder(z2.flatten(0, 1)))
        scaled = (z1 - mu).square() * torch.exp(-logvar)
        learned = 0.5 * (scaled + logvar - z1.square()).float().sum(-1)  # log N(z1; 0, I) - log p(z1|z2)
        rate = lower + top + learned  # [K, B]
        likelihood = self.decode(z1, batch)
        distortion = -likelihood.log_prob(batch.target, mask=batch.mask).reshape(rate.shape)
        mean = likelihood.mean if draw.reconstruction else None
        if draw.num_samples == 1:
            mean = None if mean is None else mean[0]
            return VAETerms(z=z1[0], rate=rate[0], distortion=distortion[0], reconstruction=mean)
        return VAETerms(z=z1, rate=rate, distortion=distortion, reconstruction=mean)

    def kl_per_dimension(self, posterior: DiagonalGaussian) -> Tensor:
        """KL to N(0, I) of each dimension of z1, summed over the examples, [D1] nats.

        It shows which dimensions are used. It is not a term of the rate, whose prior p(z1|z2) is learned.
        """
        return posterior.kl_per_dimension()

    def draw_prior(self, num: int, noise_key: Tensor) -> Tensor:
        """z1 [num, D1]: z2 from N(0, I), then z1 from p(z1|z2)."""
        mu, logvar = self.top_decoder(self.prior.rsample(num, noise_key))
        lower_stream = ops.stream(ops.Use.GENERATION, ops.GenerationSite.LOWER_PRIOR)
        noise = ops.philox_normal(noise_key, *mu.shape, stream=lower_stream)
        return mu + torch.exp(0.5 * logvar) * noise

    def _top_noise(self, like: Tensor, noise_key: Tensor, *, evaluation: bool, **draws: int) -> Tensor:
        """Standard normal noise [K, B, D2]: a sample of the operator for N(0, I), whose rows are examples."""
        zeros = like.new_zeros(like.shape[0], self.top_encoder.latent_dim)
        stream = ops.stream(ops.Use.LATENT, ops.LatentSite.TOP_Z, evaluation=evaluation)
        return DiagonalGaussian(zeros, zeros).rsample_log_ratio(noise_key, stream=stream, **draws)[0]
