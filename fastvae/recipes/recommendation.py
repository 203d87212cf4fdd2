"""Recommenders on MovieLens-100K."""

from __future__ import annotations

from fastvae.data import DataConfig
from fastvae.data.recommendation import InteractionsConfig
from fastvae.models import ModelConfig
from fastvae.objective import ObjectiveConfig
from fastvae.run import RunConfig
from fastvae.train import TrainConfig


def movielens_100k() -> RunConfig:
    """Mult-VAE (Liang et al. 2018) on the films that 943 people liked; ``fastvae recommend`` asks it."""
    return RunConfig(
        recipe="movielens-100k",
        model=ModelConfig(
            network="bag", hidden_dim=(600,), latent_dim=200, activation="tanh", likelihood="multinomial"
        ),
        data=DataConfig(name="movielens-100k", interactions=InteractionsConfig(min_rating=4.0)),
        train=TrainConfig(
            steps=600,
            global_batch_size=100,
            lr=1e-3,
            checkpoint_every=200,
            final_samples=1,
            objective=ObjectiveConfig(kl_weight=0.5, kl_schedule="linear", kl_warmup_steps=600),
        ),
    )
