"""Multilayer perceptrons: fully connected encoder and decoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from fastvae.nn.condition import ConditionAffine, ConditionBias
from fastvae.nn.config import Activation, Conditioning

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


class MLPEncoder(nn.Module):
    """x [B, ...] -> hidden layers -> mu and logvar [B, D] of q(z|x).

    Args:
        input_dim: number of elements of an example; x is flattened.
        hidden_dim: width of the hidden layer, or the widths of several from input to output.
        latent_dim: D, size of the latent.
        activation: "relu" or "tanh".
        condition_dim: C, size of the condition; 0 for none.
        conditioning: "concat" concatenates the condition to the input (implemented by an equivalent linear map, see
            `ConditionBias`); "film" scales and shifts the units of every hidden layer.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int | Sequence[int],
        latent_dim: int,
        activation: Activation = "relu",
        *,
        condition_dim: int = 0,
        conditioning: Conditioning = "concat",
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.hidden, width = _hidden_layers("MLPEncoder", input_dim, hidden_dim, activation)
        self.mu = _linear(width, latent_dim)
        self.logvar = _linear(width, latent_dim)
        self.condition, self.later = _conditions(self.hidden, input_dim, condition_dim, conditioning)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map x [B, ...] of any numeric dtype and a condition [B, C] to mu and logvar, each [B, D]."""
        x = x.flatten(1).to(self.mu.weight.dtype)
        hidden = _through(self.hidden, x, (self.condition, *self.later), condition)
        return self.mu(hidden), self.logvar(hidden)


class MLP(nn.Module):
    """x [N, ...] -> hidden layers -> one linear output [N, *output_dim].

    Args:
        input_dim: number of elements of an example; x is flattened.
        hidden_dim: width of the hidden layer, or the widths of several from input to output; () for none.
        output_dim: size of an output, or its shape, for example (1, 28, 28).
        activation: "relu" or "tanh".
        condition_dim: C, size of the condition; 0 for none.
        conditioning: "concat" concatenates the condition to the input (implemented by an equivalent linear map, see
            `ConditionBias`); "film" scales and shifts the units of every hidden layer.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int | Sequence[int],
        output_dim: int | Sequence[int],
        activation: Activation = "relu",
        *,
        condition_dim: int = 0,
        conditioning: Conditioning = "concat",
    ) -> None:
        super().__init__()
        self.output_shape = (output_dim,) if isinstance(output_dim, int) else tuple(output_dim)
        self.hidden, width = _hidden_layers(type(self).__name__, input_dim, hidden_dim, activation)
        self.output = _linear(width, math.prod(self.output_shape))
        self.condition, self.later = _conditions(self.hidden, self.output.out_features, condition_dim, conditioning)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Map x [N, ...] of any numeric dtype and a condition [N, C] to [N, *output_dim]."""
        x = x.flatten(1).to(self.output.weight.dtype)
        if len(self.hidden):
            output = self.output(_through(self.hidden, x, (self.condition, *self.later), condition))
        else:
            output = self.condition(self.output(x), condition)
        return output.unflatten(1, self.output_shape)


class MLPDecoder(MLP):
    """z [N, D] -> hidden layers -> the likelihood's parameters [N, *output_dim].

    Args:
        latent_dim: D, size of the latent.
        hidden_dim: width of the hidden layer, or the widths of several from z to x; () for a linear decoder.
        output_dim: number of elements of an example, or its shape, for example (1, 28, 28).
        activation: "relu" or "tanh".
        condition_dim: C, size of the condition; 0 for none.
        conditioning: "concat" concatenates the condition to the input (implemented by an equivalent linear map, see
            `ConditionBias`); "film" scales and shifts the units of every hidden layer.
    """

    def __init__(
        self,
        latent_dim: int,
        hidden_dim: int | Sequence[int],
        output_dim: int | Sequence[int],
        activation: Activation = "relu",
        *,
        condition_dim: int = 0,
        conditioning: Conditioning = "concat",
    ) -> None:
        super().__init__(
            latent_dim, hidden_dim, output_dim, activation, condition_dim=condition_dim, conditioning=conditioning
        )

    @torch.no_grad()
    def set_output_bias(self, output: Tensor) -> None:
        """Set the output layer's bias, so that the initial output is near ``output``, which has the event's shape.

        For binary pixels, use the logit of the mean training pixel (`fastvae.Bernoulli.output_for_mean`); training then
        does not have to learn it.

        Raises:
            ValueError: ``output`` has another number of elements than the network's output.
        """
        if output.numel() != self.output.bias.numel():
            raise ValueError(
                f"MLPDecoder.set_output_bias: output must have {self.output.bias.numel()} elements, got shape"
                f" {list(output.shape)}; give one number for each element of the network's output"
            )
        self.output.bias.copy_(output.flatten())


def _hidden_layers(
    where: str, input_dim: int, hidden_dim: int | Sequence[int], activation: str
) -> tuple[nn.Sequential, int]:
    if activation not in _ACTIVATIONS:
        raise ValueError(f"{where}: activation must be one of {sorted(_ACTIVATIONS)}, got {activation!r}")
    widths = (input_dim, hidden_dim) if isinstance(hidden_dim, int) else (input_dim, *hidden_dim)
    if min(widths) < 1:
        raise ValueError(f"{where}: every layer must have at least one unit, got widths {list(widths)}")
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [_linear(fan_in, fan_out), _ACTIVATIONS[activation]()]
    return nn.Sequential(*layers), widths[-1]


def _conditions(
    hidden: nn.Sequential, otherwise: int, condition_dim: int, conditioning: Conditioning
) -> tuple[ConditionBias, nn.ModuleList]:
    """The conditioning layers of the first hidden layer (or of ``otherwise`` outputs without one) and of the others."""
    first, *others = [layer.out_features for layer in hidden if isinstance(layer, nn.Linear)] or [otherwise]
    if conditioning == "concat" or not len(hidden):
        return ConditionBias(condition_dim, first), nn.ModuleList()
    return ConditionAffine(condition_dim, first), nn.ModuleList(ConditionAffine(condition_dim, w) for w in others)


def _through(hidden: nn.Sequential, x: Tensor, conditions: Sequence[nn.Module], condition: Tensor | None) -> Tensor:
    """Apply the hidden layers, each with one of ``conditions`` before its nonlinearity."""
    if not len(hidden):
        return conditions[0](x, condition)
    remaining = iter(conditions)
    for layer in hidden:
        x = layer(x)
        if isinstance(layer, nn.Linear) and (layer_condition := next(remaining, None)) is not None:
            x = layer_condition(x, condition)
    return x


def _linear(input_dim: int, output_dim: int) -> nn.Linear:
    """A linear layer initialised as in yburda/iwae: Glorot-uniform weights and zero bias."""
    layer = nn.Linear(input_dim, output_dim)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
