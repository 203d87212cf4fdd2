"""Declaration of the recommender family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastvae.models.family import Family, Network

if TYPE_CHECKING:
    from fastvae.models.config import ModelConfig
    from fastvae.models.parts import ModelInputs, Networks


def _build(config: ModelConfig, inputs: ModelInputs) -> Networks:
    from fastvae.models.recommender.build import build  # imported here: it imports PyTorch

    return build(config, inputs)


_OPTIONS = ("hidden_dim", "activation", "recommender")
_PRESETS = {
    "small": {"hidden_dim": (), "latent_dim": 200},
    "base": {"hidden_dim": (600,), "latent_dim": 200},
}

FAMILY = Family(
    name="recommender",
    description="Mult-VAE, and its deterministic twin Mult-DAE, on counts of items (Liang et al. 2018).",
    build=_build,
    networks={
        "mult-vae": Network(options=_OPTIONS, presets=_PRESETS),
        "mult-dae": Network(options=_OPTIONS, presets=_PRESETS, has_rate=False),
    },
    likelihoods=("multinomial",),
    kinds=("interactions",),
)
