"""MNIST with all 256 levels, for compression."""

from __future__ import annotations

from dataclasses import replace

from fastvae.data import DataConfig
from fastvae.objective import ObjectiveConfig
from fastvae.recipes.images import mnist
from fastvae.run import RunConfig


def mnist_grey() -> RunConfig:
    """8-bit MNIST under a beta-binomial likelihood (Townsend et al. 2019), for `fastvae compress`: 30 epochs."""
    base = mnist()
    return replace(
        base,
        recipe="mnist-grey",
        model=replace(base.model, hidden_dim=(512, 256), latent_dim=50, likelihood="beta-binomial"),
        data=DataConfig(name="mnist"),
        train=replace(
            base.train,
            epochs=30,
            lr=2e-3,
            max_grad_norm=1000.0,
            warmup="2%",
            eval_every=None,
            objective=ObjectiveConfig(kl_schedule="linear", kl_warmup="10%"),
        ),
    )
