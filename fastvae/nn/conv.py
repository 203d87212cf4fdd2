"""Convolutional residual networks for images of 8 to 64 pixels per side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastvae.nn.condition import ConditionBias
from fastvae.nn.config import ConvConfig

_SIZES = (8, 64)  # smallest and largest height and width in pixels


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions, each after GroupNorm and SiLU, plus the identity (He et al. 2016, arXiv 1603.05027).

    GroupNorm (Wu and He 2018, arXiv 1803.08494) normalises each example separately, so that results do not depend on
    how a batch is split.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(groups, channels), nn.GroupNorm(groups, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)  # the block is initialised to the identity
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        hidden = self.conv1(functional.silu(self.norm1(x)))
        return x + self.conv2(functional.silu(self.norm2(hidden)))


class ConvEncoder(nn.Module):
    """x [B, C, H, W] in [0, 1] -> mu and logvar [B, D] of q(z|x).

    Each scale is a convolution with stride 2 followed by residual blocks.

    Args:
        image_shape: (C, H, W) with H and W from 8 to 64 pixels.
        latent_dim: D, size of the latent.
        config: width and depth of the network.
        condition_dim: size of the condition; 0 for none.

    Raises:
        ValueError: the image shape is not supported, or the image is too small for the number of scales.
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
        nn.init.zeros_(self.logvar.weight)  # the initial variance of q(z|x) is 1
        nn.init.zeros_(self.logvar.bias)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map x [B, C, H, W] and a condition [B, C'] to mu and logvar, each [B, D]."""
        hidden = 2 * x.to(self.mu.weight.dtype) - 1
        for index, (scale, blocks) in enumerate(zip(self.scales, self.blocks, strict=True)):
            hidden = scale(hidden)
            hidden = blocks(hidden if index else self.condition(hidden, condition))
        hidden = functional.silu(self.norm(hidden)).flatten(1)
        return self.mu(hidden), self.logvar(hidden)


class ConvDecoder(nn.Module):
    """z [N, D] -> the likelihood's parameters [N, C, H, W], through the encoder's scales in reverse order.

    Each scale doubles height and width (nearest neighbour, cropped to the encoder's size) before a convolution. The
    last scale is a sub-pixel convolution with 2 x 2 output pixels per position (Shi et al. 2016, arXiv 1609.05158),
    which has a quarter of the cost.

    Args:
        latent_dim: D, size of the latent.
        image_shape: (C, H, W) of the output with H and W from 8 to 64 pixels.
        config: width and depth of the network, the same as the encoder's.
        condition_dim: size of the condition; 0 for none.

    Raises:
        ValueError: the image shape is not supported, or the image is too small for the number of scales.
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
        self.output_bias = nn.Parameter(torch.zeros(tuple(image_shape)))  # one per pixel, for the mean image

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Map z [N, D] and a condition [N, C'] to [N, C, H, W]."""
        hidden = self.start(z.to(self.start.weight.dtype)).unflatten(1, (-1, *self.sizes[0]))
        hidden = self.blocks[0](self.condition(hidden, condition))
        for scale, blocks, size in zip(self.scales, self.blocks[1:], self.sizes[1:], strict=False):
            hidden = blocks(scale(_doubled(hidden, size)))
        output = functional.pixel_shuffle(self.output(functional.silu(self.norm(hidden))), 2)
        height, width = self.sizes[-1]
        return output[..., :height, :width] + self.output_bias

    @torch.no_grad()
    def set_output_bias(self, output: Tensor) -> None:
        """Initialise the output to ``output`` [C, H, W] for every z: set the bias, and zero the last convolution."""
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]
        self.output_bias.copy_(output.view_as(self.output_bias))


def _blocks(channels: int, config: ConvConfig) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels, config.groups) for _ in range(config.blocks)))


def _doubled(hidden: Tensor, size: tuple[int, int]) -> Tensor:
    """Double height and width, cropped to ``size``, because a convolution with stride 2 rounds sizes up."""
    return hidden.repeat_interleave(2, 2).repeat_interleave(2, 3)[..., : size[0], : size[1]]


def _sizes(where: str, image_shape: Sequence[int], num_scales: int) -> list[tuple[int, int]]:
    """Height and width of the image and after each convolution with stride 2."""
    low, high = _SIZES
    if len(image_shape) != 3 or not all(low <= side <= high for side in image_shape[1:]):
        raise ValueError(
            f"{where}: examples must be images [C, H, W] of {low} to {high} pixels per side, got {list(image_shape)};"
            " resize the images, or use network mlp"
        )
    height, width = image_shape[1], image_shape[2]
    sizes = [(height, width)]
    for _ in range(num_scales):
        height, width = math.ceil(height / 2), math.ceil(width / 2)
        sizes.append((height, width))
    if min(sizes[-2]) < 2:
        raise ValueError(
            f"{where}: {num_scales} scales are too many for images of {list(image_shape[1:])} pixels;"
            " give fewer numbers of channels"
        )
    return sizes
