"""Likelihoods of discrete pixels with two numbers per value: what they share."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fastvae.likelihoods.base import Likelihood, LikelihoodSettings
from fastvae.likelihoods.support import Support
from fastvae.model_inputs import ModelInputs


class PixelLevels(Likelihood):
    """Base class: pixels ``level / (num_levels - 1)``, and an output [.., 2 C, H, W] with two numbers per value.

    Args:
        event_dim: dimensions of one example: 3 for [C, H, W]. The output's first one of them is twice as long.
        num_levels: number of values of a pixel, at least 2.

    Raises:
        ValueError: fewer than two levels.
    """

    is_discrete = True  # it scores pixel levels directly: bits per dimension need no Jacobian
    option: ClassVar[str]
    """Its name in ``--model.likelihood``."""
    numbers: ClassVar[str]
    """What the output has for each value, in words."""

    def __init__(self, event_dim: int = 3, num_levels: int = 256) -> None:
        super().__init__()
        if num_levels < 2:
            raise ValueError(f"{type(self).__name__}: num_levels must be at least 2, got {num_levels}")
        self.event_dim, self.num_levels = event_dim, num_levels
        self.support = Support(low=0, high=1, levels=num_levels)

    @classmethod
    def build(cls, config: LikelihoodSettings, inputs: ModelInputs) -> PixelLevels:
        """Build it for images with the data's levels.

        Raises:
            ValueError: the data are not discrete pixels, or were dequantised or binarised.
        """
        if inputs.num_levels is None:
            raise ValueError(
                f"model.likelihood={cls.option}: requires discrete pixels;"
                " use 8-bit images with --data.binarize none --data.dequantize False, or another likelihood"
            )
        return cls(len(inputs.event_shape), inputs.num_levels)

    def halves(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """The two numbers of each value, from an output [B, 2 C, ...] or [K, B, 2 C, ...].

        Raises:
            ValueError: the output cannot be halved.
        """
        size = output.shape[-self.event_dim]
        if size % 2:
            raise ValueError(
                f"{type(self).__name__}: the output must have {self.numbers} for each value, got {size}"
                f" along dimension {-self.event_dim} of {list(output.shape)}; set the decoder's output size"
            )
        first, second = output.chunk(2, dim=-self.event_dim)
        return first, second

    def output_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the decoder's output for one example."""
        return (2 * event_shape[0], *event_shape[1:])
