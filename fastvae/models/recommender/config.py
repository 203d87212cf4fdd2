"""Settings of the recommender family. This module does not import PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

from fastvae.settings import Settings


@dataclass(frozen=True, kw_only=True)
class RecommenderConfig(Settings):
    """Settings of Mult-VAE and Mult-DAE."""

    dropout: float = 0.5
    """Dropout probability of the items that the encoder reads, in [0, 1)."""

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ValueError(f"RecommenderConfig: dropout must be in [0, 1), got {self.dropout}; use 0 for off")
