"""The networks of bench_train_step.py, with the same encoders and decoders for eager PyTorch and for fastvae."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

import fastvae
from fastvae import ops
from fastvae.distributions import DiagonalGaussian
from fastvae.nn import MLPDecoder, MLPEncoder
from fastvae.records import Batch, VAETerms

LATENT_DIM = 20


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network with implementations in eager PyTorch and in fastvae."""

    name: str
    description: str
    eager: Callable[[], nn.Module]  # forward(x) -> the loss, a scalar
    ours: Callable[[], nn.Module]  # forward(batch, noise_key) -> VAETerms
    steps: int  # steps per round, about one second
    num_samples: int = 1


class EagerVAE(nn.Module):
    """A VAE with the usual implementation of the loss."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x: Tensor) -> Tensor:
        mu, logvar = self.encoder(x)
        std = torch.exp(0.5 * logvar)
        z = mu + std * torch.randn_like(std)
        logits = self.decoder(z)
        distortion = functional.binary_cross_entropy_with_logits(logits.flatten(1), x.flatten(1), reduction="sum")
        kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        return (distortion + kl) / len(x)


def _mlp() -> tuple[nn.Module, nn.Module]:
    return MLPEncoder(784, 400, LATENT_DIM), MLPDecoder(LATENT_DIM, 400, (1, 28, 28))


class ConvEncoder(nn.Module):
    """28 x 28 -> 14 x 14 -> 7 x 7 -> mu, logvar."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_dim = LATENT_DIM
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 4, stride=2, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 4, stride=2, padding=1), nn.ReLU()
        )
        self.mu, self.logvar = nn.Linear(64 * 49, LATENT_DIM), nn.Linear(64 * 49, LATENT_DIM)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(x).flatten(1)
        return self.mu(features), self.logvar(features)


class ConvDecoder(nn.Sequential):
    """The mirror image of the encoder."""

    def __init__(self) -> None:
        super().__init__(
            nn.Linear(LATENT_DIM, 64 * 49),
            nn.Unflatten(1, (64, 7, 7)),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 1, 4, stride=2, padding=1),
        )


class TwoLayers(nn.Module):
    """The two stochastic layers of Burda et al. 2016 (arXiv:1509.00519): z1 of 100 dimensions below z2 of 50."""

    def __init__(self, num_samples: int) -> None:
        super().__init__()
        self.num_samples = num_samples
        self.q1, self.q2 = MLPEncoder(784, (200, 200), 100, "tanh"), MLPEncoder(100, (100, 100), 50, "tanh")
        self.p1 = MLPEncoder(50, (100, 100), 100, "tanh")
        self.px = MLPDecoder(100, (200, 200), (1, 28, 28), "tanh")


class EagerTwoLayers(TwoLayers):
    """The usual implementation of its importance-weighted bound."""

    def forward(self, x: Tensor) -> Tensor:
        shape = (self.num_samples, len(x))
        mu1, logvar1 = self.q1(x)
        z1 = mu1 + torch.exp(0.5 * logvar1) * torch.randn(*shape, mu1.shape[1], device=x.device)
        mu2, logvar2 = (part.unflatten(0, shape) for part in self.q2(z1.flatten(0, 1)))
        z2 = mu2 + torch.exp(0.5 * logvar2) * torch.randn_like(mu2)
        prior1, prior_logvar1 = (part.unflatten(0, shape) for part in self.p1(z2.flatten(0, 1)))
        logits = self.px(z1.flatten(0, 1)).unflatten(0, shape)
        log_px = -functional.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none")
        log_p = _log_normal(z1, prior1, prior_logvar1) + _log_normal(z2, torch.zeros(()), torch.zeros(()))
        log_q = _log_normal(z1, mu1, logvar1) + _log_normal(z2, mu2, logvar2)
        log_weight = log_px.flatten(2).sum(2) + log_p - log_q
        return -(torch.logsumexp(log_weight, 0) - math.log(self.num_samples)).mean()


def _log_normal(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    mu, logvar = mu.to(z.device), logvar.to(z.device)
    return -0.5 * (math.log(2 * math.pi) + logvar + (z - mu).pow(2) / logvar.exp()).sum(-1)


class FusedTwoLayers(TwoLayers):
    """The same bound with our operators, which return each sample with its log ratio to N(0, I)."""

    def forward(self, batch: Batch, noise_key: Tensor, num_samples: int = 1, **options: int | bool) -> VAETerms:
        shape = (num_samples, len(batch.x))
        z1, ratio1 = DiagonalGaussian(*self.q1(batch.x)).rsample_log_ratio(noise_key, num_samples)
        # The K * B samples of the second layer are numbered as rows of one site, which is acceptable in a benchmark.
        site = ops.stream(ops.Use.LATENT, site=1)
        second = DiagonalGaussian(*self.q2(z1.flatten(0, 1)))
        z2, ratio2 = second.rsample_log_ratio(noise_key, 1, stream=site)
        prior1, prior_logvar1 = (part.unflatten(0, shape) for part in self.p1(z2[0]))
        moved = z1 - prior1
        to_prior = 0.5 * (prior_logvar1 + moved.square() * torch.exp(-prior_logvar1) - z1.square()).sum(2)
        logits = self.px(z1.flatten(0, 1)).unflatten(0, shape)
        terms = (z1, ratio1 + ratio2.view(shape) + to_prior, ops.bernoulli_nll(logits, batch.target))
        z, rate, distortion = (term[0] if num_samples == 1 else term for term in terms)
        return VAETerms(z=z, rate=rate, distortion=distortion, rate_per_dimension=None)


def _vae(parts: Callable[[], tuple[nn.Module, nn.Module]]) -> Callable[[], nn.Module]:
    return lambda: fastvae.VAE(*parts(), fastvae.Bernoulli(), LATENT_DIM)


NETWORKS = (
    Network(
        name="textbook",
        description="784-400-20-400-784",
        eager=lambda: EagerVAE(*_mlp()),
        ours=_vae(_mlp),
        steps=150,
    ),
    Network(
        name="iwae",
        description="two stochastic layers, 784-200-200-z100-100-100-z50, K = 5",
        eager=lambda: EagerTwoLayers(5),
        ours=lambda: FusedTwoLayers(5),
        steps=50,
        num_samples=5,
    ),
    Network(
        name="convolutional",
        description="32 and 64 channels, 4 x 4 kernels, stride 2, z 20",
        eager=lambda: EagerVAE(ConvEncoder(), ConvDecoder()),
        ours=_vae(lambda: (ConvEncoder(), ConvDecoder())),
        steps=40,
    ),
)
