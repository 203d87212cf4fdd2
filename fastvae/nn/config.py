"""Settings of networks. Nothing here imports PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fastvae.settings import Settings

Activation = Literal["relu", "tanh"]
Conditioning = Literal["concat", "film"]


@dataclass(frozen=True, kw_only=True)
class ConvConfig(Settings):
    """How wide and deep the convolutional networks are."""

    channels: tuple[int, ...] = (32, 64)
    """Feature maps at each scale; every scale has half the pixels of the one before along either side."""
    blocks: int = 1
    """Residual blocks at each scale."""
    groups: int = 8
    """Groups of GroupNorm; must divide every number of channels."""

    def __post_init__(self) -> None:
        if not self.channels or min(self.channels) < 1 or self.blocks < 1 or self.groups < 1:
            raise ValueError(
                "ConvConfig: channels, blocks and groups must be at least 1,"
                f" got {self.channels}, {self.blocks} and {self.groups}"
            )
        if any(channels % self.groups for channels in self.channels):
            raise ValueError(f"ConvConfig: groups must divide every one of {self.channels}, got {self.groups}")
