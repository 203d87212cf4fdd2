"""A small adversarial task: two networks, hinge losses, and an adaptive weight of the second loss in one pass.

The generator's loss is rate + distortion + w g, g = -D(r) per example. w is the ratio of the norms of the two losses'
gradients in the decoder's last layer (Esser et al. 2021, arXiv 2012.09841, equation 7), taken over the GLOBAL batch.
Nothing is back-propagated twice: with a = d(distortion)/dr and b = dg/dr at a detached r, the gradients of that layer's
weight are a^T h and b^T h, h its input, which are summed over the ranks; the surrogate (r (a + w b)).sum() + rate then
has the gradient of the whole loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import fastvae
from fastvae.distributed import StepReport
from fastvae.records import KeyedBatch
from fastvae.train import OptimConfig, Player, PlayerSpec, StepResult, Task

LARGEST_WEIGHT = 100.0


@dataclass(eq=False, kw_only=True)
class Reconstruction(fastvae.VAETerms):
    """The terms of a VAE, its reconstruction, and the input of the decoder's last layer."""

    reconstruction: Tensor  # [B, N] with the gradient of the generator
    features: Tensor  # [B, H] the input of the decoder's last layer


torch.export.register_dataclass(Reconstruction, serialized_type_name="tests.Reconstruction")


class SmallVAE(nn.Module):
    """A VAE of two layers; its reconstruction is NaN in the training steps listed in ``poison``."""

    def __init__(self, size: int, poison: Sequence[int] = ()) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(size, 24), nn.Tanh(), nn.Linear(24, 8))
        self.decoder = nn.Sequential(nn.Linear(4, 24), nn.Tanh())
        self.output = nn.Linear(24, size)
        self.poison = list(poison)

    def forward(self, batch: fastvae.Batch, noise_key: Tensor) -> Reconstruction:
        x = batch.x.flatten(1)
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        z, rate = fastvae.DiagonalGaussian(mu, logvar).rsample_kl(noise_key)
        features = self.decoder(z)
        reconstruction = self.output(features)
        if torch.is_grad_enabled() and int(noise_key[1]) in self.poison:
            reconstruction = reconstruction * torch.nan
        distortion = (reconstruction - x).square().sum(1)
        terms: dict[str, Any] = {"z": z, "rate": rate, "distortion": distortion}
        return Reconstruction(**terms, reconstruction=reconstruction, features=features)


class Discriminator(nn.Sequential):
    """A network of two layers with one score per example."""

    def __init__(self, size: int) -> None:
        super().__init__(nn.Linear(size, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))


def update(player: Player, losses: Tensor) -> StepReport:
    """Take a player's optimizer step; a test kills the process between those of the two players."""
    return player.step(losses)


class AdversarialTask(Task):
    """Train a generator and a discriminator together.

    Args:
        discriminator: from [B, N] to a score [B, 1].
        optim: the optimizer of the discriminator.
        adaptive: whether the weight is adaptive; otherwise it is 1 and does not depend on the micro-batches.
        poison: steps in which the discriminator's loss is NaN.
    """

    columns = ("loss_nats", "rate_nats", "distortion_nats", "discriminator_loss", "adversarial_weight")

    def __init__(
        self, discriminator: nn.Module, optim: OptimConfig, *, adaptive: bool = True, poison: Sequence[int] = ()
    ) -> None:
        self.opponents = (PlayerSpec(name="discriminator", model=discriminator, optim=optim, ema=0.5),)
        self.adaptive, self.poison = adaptive, list(poison)
        self.real_level = torch.zeros(())  # a moving average of D(x): the task's own state

    def tensors(self) -> Mapping[str, Tensor]:
        return {"real_level": self.real_level}

    def numbers(self, config: fastvae.TrainConfig, step: int) -> dict[str, float]:
        return {"adversarial_factor": 0.5 if step >= 2 else 0.0}

    def step(
        self, players: Mapping[str, Player], micro_batches: Sequence[KeyedBatch], numbers: Mapping[str, float | Tensor]
    ) -> StepResult:
        generator, discriminator = players["generator"], players["discriminator"]
        sums, level = torch.zeros(len(self.columns)), torch.zeros(())
        for index, micro in enumerate(micro_batches):
            last = index == len(micro_batches) - 1
            with generator.strategy.accumulate(last):
                with generator.autocast():
                    terms = generator.strategy.module(micro.batch, micro.key)
                with discriminator.strategy.accumulate(last):
                    loss_d, scores = self._discriminate(discriminator, micro, terms.reconstruction.detach())
                    discriminator.backward(loss_d)
                loss_g, weight = self._generate(players, micro, terms, numbers["adversarial_factor"])
            weights = weight.expand(len(loss_g))
            parts = (loss_g, terms.rate, terms.distortion, loss_d, weights)
            sums += torch.stack([part.detach() for part in parts]).sum(1)
            level += scores.sum()
        mean = generator.global_mean(level)
        if torch.isfinite(mean):
            self.real_level.lerp_(mean, 0.1)
        reports = {"discriminator": update(discriminator, sums[3]), "generator": update(generator, sums[0])}
        return StepResult(reports=reports, sums=sums)

    def _discriminate(self, player: Player, micro: KeyedBatch, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the discriminator's loss [B] on real and reconstructed examples, and its scores of the real ones."""
        with player.autocast():
            real_score, fake_score = (
                player.strategy.module(torch.cat([micro.batch.x.flatten(1), fake])).squeeze(1).chunk(2)
            )
        loss: Tensor = (1 - real_score).relu() + (1 + fake_score).relu()
        return loss * (torch.nan if int(micro.key[1]) in self.poison else 1), real_score.detach()

    def _generate(
        self, players: Mapping[str, Player], micro: KeyedBatch, terms: Reconstruction, factor: float | Tensor
    ) -> tuple[Tensor, Tensor]:
        """Back-propagate the generator's loss; return it [B] and the weight [] of its adversarial term."""
        generator, discriminator = players["generator"], players["discriminator"]
        leaf = terms.reconstruction.detach().requires_grad_()
        with discriminator.strategy.frozen() as frozen, generator.autocast():
            adversarial = -frozen(leaf).squeeze(1) * (torch.nan if int(micro.key[1]) in self.poison else 1)
            (b,) = torch.autograd.grad(adversarial.sum(), leaf)
        a = 2 * (leaf.detach() - micro.batch.x.flatten(1))
        h = terms.features.detach()
        gradients = generator.strategy.all_reduce_sum(torch.stack([a.mT @ h, b.mT @ h]))
        norms = gradients.flatten(1).norm(dim=1)
        ratio = (norms[0] / (norms[1] + 1e-4)).clamp(0, LARGEST_WEIGHT) if self.adaptive else torch.ones(())
        weight = ratio * factor
        generator.backward((terms.reconstruction * (a + weight * b)).sum() + terms.rate.sum())
        return (terms.rate + terms.distortion + weight * adversarial).detach(), weight
