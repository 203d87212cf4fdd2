"""Declaration of the text family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastvae.models.family import Family, Network

if TYPE_CHECKING:
    from fastvae.models.config import ModelConfig
    from fastvae.models.parts import ModelInputs, Networks


def _build(config: ModelConfig, inputs: ModelInputs) -> Networks:
    from fastvae.models.text.build import build  # imported here: it imports PyTorch

    return build(config, inputs)


_PRESETS = {
    "small": {"hidden_dim": (64,), "latent_dim": 16, "text": {"embedding_dim": 32}},
    "base": {"hidden_dim": (256,), "latent_dim": 32, "text": {"embedding_dim": 128}},
}

FAMILY = Family(
    name="text",
    description="A VAE of token sequences with an autoregressive decoder (Bowman et al. 2016).",
    build=_build,
    networks={
        name: Network(options=("hidden_dim", "text"), presets=_PRESETS) for name in ("gru", "lstm", "transformer")
    },
    likelihoods=("tokens",),
    kinds=("text",),
)
