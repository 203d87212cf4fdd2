"""Declaration of the autoencoder family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastvae.models.family import Family, Network

if TYPE_CHECKING:
    from fastvae.models.config import ModelConfig
    from fastvae.models.parts import ModelInputs, Networks


def _build(config: ModelConfig, inputs: ModelInputs) -> Networks:
    from fastvae.models.autoencoder.build import build  # imported here: it imports PyTorch

    return build(config, inputs)


FAMILY = Family(
    name="autoencoder",
    description="Deterministic encoder and decoder, trained by squared error.",
    build=_build,
    networks={
        "mlp": Network(
            options=("hidden_dim", "activation", "conditioning"),
            film=True,
            has_rate=False,
            presets={
                "small": {"hidden_dim": (128,), "latent_dim": 10},
                "base": {"hidden_dim": (400,), "latent_dim": 20},
                "large": {"hidden_dim": (1024, 512), "latent_dim": 64},
            },
        )
    },
    likelihoods=(),
    kinds=("pixels", "audio", "table"),
)
