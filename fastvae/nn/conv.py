"""Convolutional residual networks for images of 8 to 64 pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastvae.nn.condition import ConditionBias
from fastvae.settings import Settings

_SIZES = (8, 64)  # pixels along either side


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


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions, each after GroupNorm and SiLU, beside the identity (He et al. 2016, arXiv 1603.05027).

    GroupNorm (Wu and He 2018, arXiv 1803.08494) knows one example at a time: no result depends on the batch's split.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(groups, channels), nn.GroupNorm(groups, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)  # the block starts as the identity
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """From [B, C, H, W] to the same shape."""
        hidden = self.conv1(functional.silu(self.norm1(x)))
        return x + self.conv2(functional.silu(self.norm2(hidden)))


class ConvEncoder(nn.Module):
    """x [B, C, H, W] in [0, 1] -> mu and logvar [B, D] of q(z|x).

    Each scale is a convolution of stride 2 and residual blocks.

    Args:
        image_shape: (C, H, W), sides of 8 to 64 pixels.
        latent_dim: D.
        config: widths and depths.
        condition_dim: numbers in a condition; 0 for a network that takes none.

    Raises:
        ValueError: the shape is no such image's, or it has too few pixels for so many scales.
    """

    def __init__(
        self, image_shape: Sequence[int], latent_dim: int, config: ConvConfig, *, condition_dim: int = 0
    ) -> None:
        super().__init__()
        sizes = _sizes("ConvEncoder", image_shape, len(config.channels))
        self.latent_dim = latent_dim
        channels = (image_shape[0], *config.channels)
        self.scales = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in pairwise(channels)
        )
        self.blocks = nn.ModuleList(_blocks(width, config) for width in config.channels)
        self.condition = ConditionBias(condition_dim, channels[1], dim=1)
        self.norm = nn.GroupNorm(config.groups, channels[-1])
        self.mu = nn.Linear(channels[-1] * math.prod(sizes[-1]), latent_dim)
        self.logvar = nn.Linear(channels[-1] * math.prod(sizes[-1]), latent_dim)
        nn.init.zeros_(self.logvar.weight)  # q(z|x) starts at variance 1
        nn.init.zeros_(self.logvar.bias)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From x [B, C, H, W], and a condition [B, C'], to mu and logvar, each [B, D]."""
        hidden = 2 * x.to(self.mu.weight.dtype) - 1
        for index, (scale, blocks) in enumerate(zip(self.scales, self.blocks, strict=True)):
            hidden = scale(hidden)
            hidden = blocks(hidden if index else self.condition(hidden, condition))
        hidden = functional.silu(self.norm(hidden)).flatten(1)
        return self.mu(hidden), self.logvar(hidden)


class ConvDecoder(nn.Module):
    """z [N, D] -> the likelihood's parameters [N, C, H, W], by the encoder's scales in reverse.

    Every scale doubles the pixels (nearest neighbour, cut to the encoder's size) before a convolution; the last one is
    a convolution to 2 x 2 pixels for each of its positions (Shi et al. 2016, arXiv 1609.05158), which costs a quarter.

    Args:
        latent_dim: D.
        image_shape: (C, H, W) of the output, sides of 8 to 64 pixels.
        config: widths and depths, as the encoder's.
        condition_dim: numbers in a condition; 0 for a network that takes none.

    Raises:
        ValueError: the shape is no such image's, or it has too few pixels for so many scales.
    """

    def __init__(
        self, latent_dim: int, image_shape: Sequence[int], config: ConvConfig, *, condition_dim: int = 0
    ) -> None:
        super().__init__()
        self.sizes = _sizes("ConvDecoder", image_shape, len(config.channels))[::-1]
        channels = config.channels[::-1]
        self.start = nn.Linear(latent_dim, channels[0] * math.prod(self.sizes[0]))
        self.condition = ConditionBias(condition_dim, channels[0], dim=1)
        self.blocks = nn.ModuleList(_blocks(width, config) for width in channels)
        self.scales = nn.ModuleList(nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise(channels))
        self.norm = nn.GroupNorm(config.groups, channels[-1])
        self.output = nn.Conv2d(channels[-1], 4 * image_shape[0], 3, padding=1)
        self.output_bias = nn.Parameter(torch.zeros(tuple(image_shape)))  # of each pixel: images have a mean

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """From z [N, D], and a condition [N, C'], to [N, C, H, W]."""
        hidden = self.start(z.to(self.start.weight.dtype)).unflatten(1, (-1, *self.sizes[0]))
        hidden = self.blocks[0](self.condition(hidden, condition))
        for scale, blocks, size in zip(self.scales, self.blocks[1:], self.sizes[1:], strict=False):
            hidden = blocks(scale(_doubled(hidden, size)))
        output = functional.pixel_shuffle(self.output(functional.silu(self.norm(hidden))), 2)
        height, width = self.sizes[-1]
        return output[..., :height, :width] + self.output_bias

    @torch.no_grad()
    def set_output_bias(self, output: Tensor) -> None:
        """Start the output at ``output``, the image's shape, and the convolution before it at 0."""
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]
        self.output_bias.copy_(output.view_as(self.output_bias))


def _blocks(channels: int, config: ConvConfig) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels, config.groups) for _ in range(config.blocks)))


def _doubled(hidden: Tensor, size: tuple[int, int]) -> Tensor:
    """Twice the pixels along either side, cut to ``size``: a convolution of stride 2 halves upwards."""
    return hidden.repeat_interleave(2, 2).repeat_interleave(2, 3)[..., : size[0], : size[1]]


def _sizes(where: str, image_shape: Sequence[int], num_scales: int) -> list[tuple[int, int]]:
    """Height and width after each of the convolutions of stride 2, the image's own first."""
    low, high = _SIZES
    if len(image_shape) != 3 or not all(low <= side <= high for side in image_shape[1:]):
        raise ValueError(
            f"{where}: examples must be images [C, H, W] of {low} to {high} pixels a side, got {list(image_shape)};"
            " resize them, or use network mlp"
        )
    height, width = image_shape[1], image_shape[2]
    sizes = [(height, width)]
    for _ in range(num_scales):
        height, width = math.ceil(height / 2), math.ceil(width / 2)
        sizes.append((height, width))
    if min(sizes[-2]) < 2:
        raise ValueError(
            f"{where}: {num_scales} scales halve {list(image_shape[1:])} pixels to nothing; use fewer channels"
        )
    return sizes
