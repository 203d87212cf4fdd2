"""Settings of networks. This module does not import PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fastvae.settings import Settings

Activation = Literal["relu", "tanh"]
Conditioning = Literal["concat", "film"]


@dataclass(frozen=True, kw_only=True)
class ConvConfig(Settings):
    """Width and depth of the convolutional networks."""

    channels: tuple[int, ...] = (32, 64)
    """Number of feature maps at each scale; each scale has half the height and width of the previous one."""
    blocks: int = 1
    """Number of residual blocks at each scale."""
    groups: int = 8
    """Number of groups of GroupNorm; must divide every number of channels."""

    def __post_init__(self) -> None:
        if not self.channels or min(self.channels) < 1 or self.blocks < 1 or self.groups < 1:
            raise ValueError(
                "ConvConfig: channels, blocks and groups must be at least 1,"
                f" got {self.channels}, {self.blocks} and {self.groups}"
            )
        if any(channels % self.groups for channels in self.channels):
            raise ValueError(f"ConvConfig: groups must divide every one of {self.channels}, got {self.groups}")
