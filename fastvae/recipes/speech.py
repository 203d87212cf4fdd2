"""Spoken digits: log-mel spectrograms of one-second recordings."""

from __future__ import annotations

from fastvae.data import AudioConfig, DataConfig
from fastvae.models import ModelConfig
from fastvae.objective import ObjectiveConfig
from fastvae.run import RunConfig
from fastvae.train import TrainConfig


def spoken_digits() -> RunConfig:
    """A VAE of spoken digits, conditioned on digit and speaker: it generates any digit in any of six voices."""
    return RunConfig(
        recipe="spoken-digits",
        # FiLM conditions every layer on digit and speaker, so z need not encode them: a prior sample fits any voice.
        model=ModelConfig(hidden_dim=(1024, 512, 512), latent_dim=16, likelihood="gaussian", conditioning="film"),
        data=DataConfig(
            name="spoken-digits", condition=("label", "speaker"), audio=AudioConfig(max_delay=255, gain_db=1.5)
        ),
        train=TrainConfig(
            epochs=150,
            global_batch_size=64,
            lr=1e-3,
            weight_decay=0.05,
            ema=0.998,
            eval_every="50ep",
            checkpoint_every="50ep",
            final_samples=1000,
            # A weight above 1 keeps the latents closer to the prior, from which samples are drawn.
            objective=ObjectiveConfig(kl_weight=1.3, kl_schedule="linear", kl_warmup="20ep"),
        ),
    )
