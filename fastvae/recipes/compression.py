"""Lossless compression: your own small images, and MNIST with all 256 levels."""

from __future__ import annotations

from dataclasses import replace

from fastvae.data import DataConfig, ImagesConfig
from fastvae.models import ModelConfig
from fastvae.nn import ConvConfig
from fastvae.objective import ObjectiveConfig
from fastvae.recipes.images import mnist
from fastvae.run import RunConfig
from fastvae.train import TrainConfig


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


def lossless() -> RunConfig:
    """Your own small images (``--data.path``) for `fastvae compress`, each pixel given z and its neighbours.

    A step reads 32 images, so that 2000 steps take minutes on one core, whatever the number of images.
    """
    return RunConfig(
        recipe="lossless",
        model=ModelConfig(
            network="conv", conv=ConvConfig(channels=(16, 32)), latent_dim=32, likelihood="local-autoregressive"
        ),
        data=DataConfig(name="pixels", images=ImagesConfig(size=32)),
        train=TrainConfig(
            steps=2000,
            global_batch_size=32,
            lr=3e-3,
            warmup="4%",
            max_grad_norm=1000.0,
            log_every=100,
            eval_every=None,
            checkpoint_every=500,
            final_samples=10,
            objective=ObjectiveConfig(kl_schedule="linear", kl_warmup="10%"),
        ),
    )
