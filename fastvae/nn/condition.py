"""Layers that condition a network on, for example, a class, a length or a speaker: by concatenation or by FiLM."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConditionBias(nn.Module):
    """Adds a linear function of the condition to hidden units, which is equivalent to concatenating it to the input.

    Because ``W [x; c] = W_x x + W_c c``, adding a linear map of c to the first layer's output is equivalent to
    concatenation (Sohn et al. 2015, "Learning structured output representation using deep conditional generative
    models", section 4.1). Unlike concatenation, it also applies to the channels of a feature map and to the steps of a
    sequence.

    Args:
        condition_dim: C, size of the condition; with 0 the layer has no parameters and returns its input.
        width: number of hidden units or channels.
        dim: dimension of the hidden units or channels: 1 for [B, width, H, W], -1 for [B, T, width].
    """

    def __init__(self, condition_dim: int, width: int, *, dim: int = -1) -> None:
        super().__init__()
        self.condition_dim, self.dim = condition_dim, dim
        if condition_dim:
            self.weight = nn.Parameter(torch.empty(width, condition_dim))
            nn.init.xavier_uniform_(self.weight)

    def forward(self, hidden: Tensor, condition: Tensor | None = None) -> Tensor:
        """Combine hidden units with the condition.

        Args:
            hidden: [B, ..., width, ...].
            condition: [B, C]; None if ``condition_dim`` is 0.

        Raises:
            ValueError: the condition is missing, has another size, or is given although ``condition_dim`` is 0.
        """
        size = 0 if condition is None else condition.shape[-1]
        if size != self.condition_dim:
            raise ValueError(
                f"{type(self).__name__}: condition must be [B, {self.condition_dim}],"
                f" got {None if condition is None else list(condition.shape)};"
                + (" give one condition per example" if self.condition_dim else " build the network with condition_dim")
            )
        if condition is None or not self.condition_dim:
            return hidden
        return self.combine(hidden, condition.to(self.weight.dtype))

    def combine(self, hidden: Tensor, condition: Tensor) -> Tensor:
        """Add a linear function of the condition to the hidden units."""
        return hidden + self.broadcast(hidden, nn.functional.linear(condition, self.weight))

    def broadcast(self, hidden: Tensor, units: Tensor) -> Tensor:
        """Reshape ``units`` [B, width], one number per hidden unit, so that they broadcast with ``hidden``."""
        shape = [1] * hidden.dim()
        shape[0], shape[self.dim] = units.shape
        return units.view(shape)

    def extra_repr(self) -> str:
        """The size that ``print`` shows."""
        return f"condition_dim={self.condition_dim}"


class ConditionAffine(ConditionBias):
    """FiLM (Perez et al. 2018, arXiv 1709.07871): scales and shifts hidden units by linear functions of the condition.

    All scales are initialised to 1, so that the layer is initially equivalent to `ConditionBias`.

    Args:
        condition_dim: C, size of the condition; with 0 the layer has no parameters and returns its input.
        width: number of hidden units or channels.
        dim: dimension of the hidden units or channels.
    """

    def __init__(self, condition_dim: int, width: int, *, dim: int = -1) -> None:
        super().__init__(condition_dim, width, dim=dim)
        if condition_dim:
            self.scale = nn.Parameter(torch.zeros(width, condition_dim))

    def combine(self, hidden: Tensor, condition: Tensor) -> Tensor:
        """Scale and shift the hidden units."""
        scale = 1 + nn.functional.linear(condition, self.scale)
        return super().combine(hidden * self.broadcast(hidden, scale), condition)
