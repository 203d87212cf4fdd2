"""Recommenders on MovieLens-100K."""

from __future__ import annotations

from dataclasses import replace

from fastvae.data import DataConfig
from fastvae.data.interactions.config import InteractionsConfig
from fastvae.models import ModelConfig
from fastvae.objective import ObjectiveConfig
from fastvae.run import RunConfig
from fastvae.train import TrainConfig


def recommender() -> RunConfig:
    """Your own interactions of thousands of users: ``--data.path FILE``; items-600-200-600-items.

    For fewer than about 2000 users the network of movielens-100k, without hidden layers, is better.
    """
    base = movielens_100k()
    return replace(
        base,
        recipe="recommender",
        model=replace(base.model, hidden_dim=(600,)),
        data=DataConfig(name="interactions"),
        train=replace(
            base.train,
            epochs=60,
            global_batch_size=200,
            lr=1e-3,
            objective=ObjectiveConfig(kl_weight=0.5, kl_schedule="linear", kl_warmup="50%"),
        ),
    )


def movielens_100k() -> RunConfig:
    """Mult-VAE (Liang et al. 2018) on the films that 943 users liked, for ``fastvae recommend``.

    For so few users it has no hidden layers: items-200-items. The rate's weight ends at the published .2.
    """
    return RunConfig(
        recipe="movielens-100k",
        model=ModelConfig(
            family="recommender",
            network="mult-vae",
            hidden_dim=(),
            latent_dim=200,
            activation="tanh",
            likelihood="multinomial",
        ),
        data=DataConfig(name="movielens-100k", interactions=InteractionsConfig(min_rating=4.0)),
        train=TrainConfig(
            epochs=133,
            global_batch_size=100,
            lr=2e-3,
            checkpoint_every="50%",
            final_samples=1,
            objective=ObjectiveConfig(kl_weight=0.2, kl_schedule="linear", kl_warmup="100%"),
        ),
    )


def movielens_100k_dae() -> RunConfig:
    """Mult-DAE (Liang et al. 2018) on the same films: the deterministic twin of Mult-VAE."""
    base = movielens_100k()
    return replace(
        base,
        recipe="movielens-100k-dae",
        model=replace(base.model, network="mult-dae", hidden_dim=(600,)),
        train=replace(base.train, epochs=75, lr=1e-3, objective=ObjectiveConfig()),
    )
