"""How a condition, such as a class, a length or a speaker, enters a network: concatenated to its input, or by FiLM."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConditionBias(nn.Module):
    """Adds a linear function of the condition to the first hidden units: the same as appending it to the input.

    ``W [x; c] = W_x x + W_c c``, so a linear map of c that is added to the first layer's output is what a concatenation
    would learn (Sohn et al. 2015, "Learning structured output representation using deep conditional generative
    models", section 4.1). It serves every kind of network: channels of a feature map and the steps of a sequence take
    it alike.

    Args:
        condition_dim: C, numbers in a condition; 0 makes a layer without parameters that passes its input on.
        width: hidden units, or channels.
        dim: which dimension of the hidden units holds them: 1 for [B, width, H, W], -1 for [B, T, width].
    """

    def __init__(self, condition_dim: int, width: int, *, dim: int = -1) -> None:
        super().__init__()
        self.condition_dim, self.dim = condition_dim, dim
        if condition_dim:
            self.weight = nn.Parameter(torch.empty(width, condition_dim))
            nn.init.xavier_uniform_(self.weight)

    def forward(self, hidden: Tensor, condition: Tensor | None = None) -> Tensor:
        """Hidden units [B, ..., width, ...] combined with the condition [B, C].

        Raises:
            ValueError: a condition is missing, of another size, or given to a network that takes none.
        """
        size = 0 if condition is None else condition.shape[-1]
        if size != self.condition_dim:
            raise ValueError(
                f"{type(self).__name__}: condition must be [B, {self.condition_dim}],"
                f" got {None if condition is None else list(condition.shape)};"
                + (" give one condition per example" if self.condition_dim else " build with condition_dim")
            )
        if condition is None or not self.condition_dim:
            return hidden
        return self.combine(hidden, condition.to(self.weight.dtype))

    def combine(self, hidden: Tensor, condition: Tensor) -> Tensor:
        """The hidden units plus a linear function of the condition."""
        return hidden + self.along(hidden, nn.functional.linear(condition, self.weight))

    def along(self, hidden: Tensor, units: Tensor) -> Tensor:
        """One number for each hidden unit, ``units`` [B, width], in a shape that meets ``hidden``."""
        shape = [1] * hidden.dim()
        shape[0], shape[self.dim] = units.shape
        return units.view(shape)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"condition_dim={self.condition_dim}"


class ConditionAffine(ConditionBias):
    """FiLM (Perez et al. 2018, arXiv 1709.07871): scales and shifts hidden units by linear functions of the condition.

    A layer can then compute something different for every class, where a bias can only shift its units. Every scale
    starts at 1, as in `ConditionBias`.

    Args:
        condition_dim: C, numbers in a condition; 0 makes a layer without parameters that passes its input on.
        width: hidden units, or channels.
        dim: which dimension of the hidden units holds them.
    """

    def __init__(self, condition_dim: int, width: int, *, dim: int = -1) -> None:
        super().__init__(condition_dim, width, dim=dim)
        if condition_dim:
            self.scale = nn.Parameter(torch.zeros(width, condition_dim))

    def combine(self, hidden: Tensor, condition: Tensor) -> Tensor:
        """The hidden units, scaled and shifted."""
        scale = 1 + nn.functional.linear(condition, self.scale)
        return super().combine(hidden * self.along(hidden, scale), condition)
