"""Rows of a table with columns of several kinds: numbers under a Gaussian each, categories under a softmax each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from fastvae import ops
from fastvae.likelihoods.base import (
    Likelihood,
    LikelihoodSettings,
    aligned,
    at_least_float32,
    event_stream,
)
from fastvae.likelihoods.gaussian import Gaussian
from fastvae.likelihoods.support import Support
from fastvae.model_inputs import ModelInputs


@dataclass(frozen=True)
class BoundTable:
    """Independent columns: ``N(output, exp(logvar))`` for a number, ``softmax(output)`` for a category."""

    output: Tensor  # [B, P] or [K, B, P]: a number's mean, a category's logits
    logvar: Tensor  # [P]; not used for categories
    widths: tuple[int, ...]  # per column: 1 for a number, else the number of categories; the sum is P
    first_of_column: Tensor  # [C] int64, index of each column's first element

    @property
    def mean(self) -> Tensor:
        """Expected x, the shape of the output: a number's mean, a category's probabilities."""
        parts = self.output.split(self.widths, dim=-1)
        return torch.cat([part if part.shape[-1] == 1 else torch.softmax(part, -1) for part in parts], dim=-1)

    def log_prob(self, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log density of the numbers and log probability of the categories, in nats per example.

        Args:
            target: [B, P], numbers and one-hot categories.
            mask: [B, P] bool, False where a value is missing; it then says nothing.

        Returns:
            [B], or [K, B] where the output holds K samples.
        """
        if max(self.widths) > 1:
            return self.log_prob_per_column(target, mask).sum(-1)
        output, target, mask = aligned("Table", self.output, target, mask)
        return -ops.gaussian_nll(output, target, self.logvar, mask)

    def log_prob_per_column(self, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """What each column adds to `log_prob`: [B, C], or [K, B, C] where the output holds K samples."""
        output, target, mask = aligned("Table", self.output, target, mask)
        output, logvar = at_least_float32(output), at_least_float32(self.logvar)
        outputs, targets = output.split(self.widths, dim=-1), target.split(self.widths, dim=-1)
        columns = [
            _normal(mean, value, logvar) if mean.shape[-1] == 1 else (value * log_softmax(mean, -1)).sum(-1)
            for mean, value, logvar in zip(outputs, targets, logvar.split(self.widths), strict=True)
        ]
        nats = torch.stack([column.expand(output.shape[:-1]) for column in columns], dim=-1)
        if mask is None:
            return nats
        return torch.where(mask.bool().index_select(-1, self.first_of_column), nats, 0.0)

    def sample(self, noise_key: Tensor, *, stream: int | None = None) -> Tensor:
        """One draw for each row of the output, its shape; row i has the noise of row first_row + i."""
        rows = at_least_float32(self.output).flatten(0, -2)
        noise = ops.philox_normal(noise_key, rows.shape[0], rows.shape[1], stream=event_stream(stream))
        drawn = rows + torch.exp(0.5 * at_least_float32(self.logvar)) * noise
        parts = zip(*(tensor.split(self.widths, dim=-1) for tensor in (drawn, rows, noise)), strict=True)
        columns = [numbers if numbers.shape[-1] == 1 else _choose(logits, normal) for numbers, logits, normal in parts]
        return torch.cat(columns, dim=-1).view_as(self.output)


class Table(Likelihood):
    """Columns of numbers, each with a learned variance, and columns of categories.

    Args:
        widths: of each column: 1 for a number, otherwise how many categories it has, 2 at least.
        logvar: log variance that the numbers start from, above the floor; of values scaled to a deviation of about 1.
        logvar_floor: the log variances stay above this.

    Raises:
        ValueError: no columns, one without a category to choose, or a start that is not above the floor.
    """

    support = Support(is_density=True)

    def __init__(self, widths: Sequence[int], *, logvar: float = -1.0, logvar_floor: float = -6.0) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ValueError(f"Table: at least one column, each of at least one place, must be there, got {widths}")
        self.widths = tuple(widths)
        self.numbers = Gaussian(sum(self.widths), logvar=logvar, logvar_floor=logvar_floor)
        # No buffer: it belongs into no checkpoint, and DDP would broadcast it at every step.
        self._first_of_column = torch.tensor([0, *self.widths[:-1]]).cumsum(0)

    @classmethod
    def build(cls, config: LikelihoodSettings, inputs: ModelInputs) -> Table:
        """The columns of the data; without columns every value is a number."""
        widths = inputs.column_widths or (1,) * inputs.event_numel
        return cls(widths, logvar=config.likelihood_logvar_start, logvar_floor=config.likelihood_logvar_floor)

    def forward(self, output: Tensor) -> BoundTable:
        """The distribution of rows with these parameters, [B, P] or [K, B, P]."""
        if self._first_of_column.device != output.device:  # once: a copy at every step would wait for the device
            self._first_of_column = self._first_of_column.to(output.device)
        return BoundTable(output, self.numbers.logvar, self.widths, self._first_of_column)


def _normal(mean: Tensor, value: Tensor, logvar: Tensor) -> Tensor:
    """Log density of one column, [..., 1] -> [...]."""
    nats = -0.5 * ((value - mean).square() * torch.exp(-logvar) + logvar + math.log(2 * math.pi))
    return nats.squeeze(-1)


def _choose(logits: Tensor, noise: Tensor) -> Tensor:
    """One-hot categories [N, n] by Gumbel's rule: the largest of logits - log(-log u), u uniform, here of normals."""
    gumbel = -torch.log(-torch.special.log_ndtr(noise.double())).to(logits.dtype)
    return torch.zeros_like(logits).scatter_(-1, (logits + gumbel).argmax(-1, keepdim=True), 1.0)
