"""Settings of the hierarchical family. This module does not import PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

from fastvae.settings import Settings


@dataclass(frozen=True, kw_only=True)
class HierarchyConfig(Settings):
    """Settings of the top layer of a hierarchical VAE."""

    latent_dim: int = 50
    """Number of dimensions of z2, the top latent."""
    hidden_dim: tuple[int, ...] = (100, 100)
    """Widths of the hidden layers from z1 to z2; the layers from z2 to z1 have them in reverse order."""

    def __post_init__(self) -> None:
        if self.latent_dim < 1 or any(width < 1 for width in self.hidden_dim):
            raise ValueError(
                "HierarchyConfig: latent_dim and every width of hidden_dim must be at least 1,"
                f" got {self.latent_dim} and {self.hidden_dim}"
            )
