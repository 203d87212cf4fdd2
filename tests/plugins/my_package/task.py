"""A VAE and a critic, which learns to distinguish examples from reconstructions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fastvae import Data, Draw, TrainConfig
from fastvae.own_settings import own_settings
from fastvae.records import KeyedBatch
from fastvae.settings import Settings
from fastvae.train import OptimConfig, Player, PlayerSpec, StepResult, Task


@dataclass(frozen=True, kw_only=True)
class CriticConfig(Settings):
    """Options --train.critic.NAME."""

    hidden_dim: int = 16
    """Width of the critic's hidden layer."""
    weight: float = 0.1
    """Weight of the critic's score in the loss of the VAE."""


class CriticTask(Task):
    columns = ("loss_nats", "rate_nats", "distortion_nats", "critic_loss")

    def __init__(self, critic: nn.Module, weight: float) -> None:
        self.opponents = (PlayerSpec(name="critic", model=critic, optim=OptimConfig(lr=1e-3)),)
        self.weight = weight

    def step(
        self, players: Mapping[str, Player], micro_batches: Sequence[KeyedBatch], numbers: Mapping[str, float | Tensor]
    ) -> StepResult:
        vae, critic = players["generator"], players["critic"]
        sums = torch.zeros(len(self.columns), device=vae.strategy.world.device)
        for index, micro in enumerate(micro_batches):
            last = index == len(micro_batches) - 1
            with vae.strategy.accumulate(last), critic.strategy.accumulate(last):
                terms = vae.strategy.module(micro.batch, micro.key, draw=Draw(reconstruction=True))
                real, fake = critic.strategy.module(
                    torch.cat([micro.batch.target, terms.reconstruction.detach()])
                ).chunk(2)
                critic_loss = ((1 - real).relu() + (1 + fake).relu()).squeeze(1)  # [B]
                critic.backward(critic_loss)
                with critic.strategy.frozen() as frozen:
                    loss = terms.rate + terms.distortion - self.weight * frozen(terms.reconstruction).squeeze(1)  # [B]
                    vae.backward(loss)
            sums += torch.stack([each.detach() for each in (loss, terms.rate, terms.distortion, critic_loss)]).sum(1)
        return StepResult(reports={"generator": vae.step(sums[0]), "critic": critic.step(sums[3])}, sums=sums)


def build_critic(config: TrainConfig, model: nn.Module, data: Data) -> CriticTask:
    own = own_settings(config, CriticConfig)
    layers = (nn.Linear(data.event_numel, own.hidden_dim), nn.ReLU(), nn.Linear(own.hidden_dim, 1))
    return CriticTask(nn.Sequential(*layers), own.weight)
