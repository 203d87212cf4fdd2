"""scikit-learn's handwritten digits: 1797 images of 8 x 8 pixels with 17 levels; nothing to download."""

from __future__ import annotations

from dataclasses import replace

from fastvae.data import DataConfig
from fastvae.models import ModelConfig
from fastvae.objective import ObjectiveConfig
from fastvae.run import RunConfig
from fastvae.train import TrainConfig


def digits() -> RunConfig:
    """A small VAE with a learned variance on dequantised digits; trains in under two minutes on two cores."""
    return RunConfig(
        recipe="digits",
        model=ModelConfig(hidden_dim=(128,), latent_dim=10, likelihood="gaussian", likelihood_logvar="per-dimension"),
        data=DataConfig(name="digits"),
        train=TrainConfig(
            epochs=535,
            global_batch_size=128,
            lr=2e-3,
            warmup="2%",
            weight_decay=0.05,
            ema=0.999,
            eval_every="10%",
            checkpoint_every=1000,
            final_samples=500,
            objective=ObjectiveConfig(kl_schedule="linear", kl_warmup="80%"),
        ),
    )


def digits_linear() -> RunConfig:
    """The linear VAE, whose optimum is probabilistic PCA (Lucas et al. 2019, arXiv 1911.02469): known exactly."""
    return RunConfig(
        recipe="digits-linear",
        model=ModelConfig(network="linear", latent_dim=10, likelihood="gaussian"),
        data=DataConfig(name="digits-raw"),
        train=TrainConfig(
            epochs=1425,
            global_batch_size=128,
            optimizer="adam",
            lr=2e-3,
            log_every=500,
            checkpoint_every=4000,
            final_samples=1000,
        ),
    )


def autoencoder_digits() -> RunConfig:
    """The deterministic autoencoder on the same digits: squared error, no noise, no prior."""
    base = digits()
    return replace(
        base,
        recipe="autoencoder-digits",
        model=replace(base.model, family="autoencoder"),
        data=DataConfig(name="digits-raw"),
        train=replace(base.train, final_samples=1, objective=ObjectiveConfig()),
    )
