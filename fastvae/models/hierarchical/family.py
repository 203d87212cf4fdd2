"""Declaration of the hierarchical family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastvae.models.family import ELEMENTWISE, Family, Network

if TYPE_CHECKING:
    from fastvae.models.config import ModelConfig
    from fastvae.models.parts import ModelInputs, Networks


def _build(config: ModelConfig, inputs: ModelInputs) -> Networks:
    from fastvae.models.hierarchical.build import build  # imported here: it imports PyTorch

    return build(config, inputs)


FAMILY = Family(
    name="hierarchical",
    description="Two stochastic layers, whose lower prior is learned (Burda et al. 2016).",
    build=_build,
    networks={
        "mlp": Network(
            options=("hidden_dim", "activation", "conditioning", "hierarchy"),
            film=True,
            presets={
                "small": {
                    "hidden_dim": (64, 64),
                    "latent_dim": 20,
                    "hierarchy": {"hidden_dim": (32, 32), "latent_dim": 10},
                },
                "base": {
                    "hidden_dim": (200, 200),
                    "latent_dim": 100,
                    "hierarchy": {"hidden_dim": (100, 100), "latent_dim": 50},
                },
            },
        )
    },
    likelihoods=ELEMENTWISE,
    kinds=("pixels", "audio", "table"),
)
