"""Declaration of the vae family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastvae.models.family import ELEMENTWISE, Family, Network

if TYPE_CHECKING:
    from fastvae.models.config import ModelConfig
    from fastvae.models.parts import ModelInputs, Networks


def _build(config: ModelConfig, inputs: ModelInputs) -> Networks:
    from fastvae.models.vae.build import build  # imported here: it imports PyTorch

    return build(config, inputs)


FAMILY = Family(
    name="vae",
    description="One Gaussian latent with a standard normal prior (Kingma and Welling 2013).",
    build=_build,
    networks={
        "mlp": Network(
            options=("hidden_dim", "activation", "conditioning"),
            film=True,
            presets={
                "small": {"hidden_dim": (128,), "latent_dim": 10},
                "base": {"hidden_dim": (400,), "latent_dim": 20},
                "large": {"hidden_dim": (1024, 512), "latent_dim": 64},
            },
        ),
        "conv": Network(
            options=("conv",),
            kinds=("pixels", "audio"),
            presets={
                "small": {"conv": {"channels": (16, 32)}, "latent_dim": 10},
                "base": {"conv": {"channels": (32, 64)}, "latent_dim": 32},
                "large": {"conv": {"channels": (48, 96)}, "latent_dim": 128},
            },
        ),
        "linear": Network(presets={"base": {"latent_dim": 10}}),
    },
    likelihoods=(*ELEMENTWISE, "local-autoregressive"),
    kinds=("pixels", "audio", "table"),
)
