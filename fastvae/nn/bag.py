"""Networks whose input is a bag of items: the few items of a user out of a large catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from fastvae import ops
from fastvae.nn.condition import ConditionBias


class BagLinear(nn.Module):
    """A linear layer for sparse rows, which gathers and sums the weights of the items in each row.

    Args:
        num_items: V, number of items.
        width: H, size of the output.
    """

    def __init__(self, num_items: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_items, width))  # one row per item, so that gathers are contiguous
        self.bias = nn.Parameter(torch.zeros(width))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, crow_indices: Tensor, col_indices: Tensor, values: Tensor) -> Tensor:
        """Map compressed rows to [B, H].

        Args:
            crow_indices: int64 [B + 1], offset of each row's first entry.
            col_indices: int64 [N], item of each entry.
            values: float [N], value of each entry.
        """
        weights = values.to(self.weight.dtype)
        offsets = crow_indices[:-1]
        return embedding_bag(col_indices, self.weight, offsets, mode="sum", per_sample_weights=weights) + self.bias

    def extra_repr(self) -> str:
        """The sizes that ``print`` shows."""
        return f"num_items={self.weight.shape[0]}, width={self.weight.shape[1]}"


class BagEncoder(nn.Module):
    """Normalised bag of items -> dropout -> tanh layers -> mu and logvar, or a deterministic code, each [B, D].

    The inference network of Mult-VAE and Mult-DAE (Liang et al. 2018, arXiv 1802.05814, sections 2.2 and 2.3). Each
    row is scaled to Euclidean length 1. Memory use is proportional to the number of interactions, not to B times V.

    Args:
        num_items: V, number of items.
        hidden_dim: widths of the hidden layers from input to output; () for none.
        latent_dim: D, size of the latent.
        num_heads: 2 for mu and logvar; 1 for the code of a deterministic model.
        dropout: probability that an item of a training example is dropped, in [0, 1). The noise is a function of the
            example's row in the global batch and of the item, exactly as `KeyedDropout` applied to the dense row.
        condition_dim: C, size of the condition; 0 for none.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        num_items: int,
        hidden_dim: Sequence[int],
        latent_dim: int,
        *,
        num_heads: int = 2,
        dropout: float = 0.5,
        condition_dim: int = 0,
    ) -> None:
        super().__init__()
        if min(num_items, latent_dim, *hidden_dim) < 1 or not 0 <= dropout < 1:
            raise ValueError(
                "BagEncoder: num_items, latent_dim and every width must be at least 1 and dropout in [0, 1),"
                f" got {num_items}, {latent_dim}, {list(hidden_dim)} and {dropout}"
            )
        widths = (*hidden_dim, num_heads * latent_dim)
        self.latent_dim, self.num_heads, self.dropout = latent_dim, num_heads, dropout
        self.bag = BagLinear(num_items, widths[0])
        self.condition = ConditionBias(condition_dim, widths[0])
        self.layers = nn.ModuleList(_linear(fan_in, fan_out) for fan_in, fan_out in pairwise(widths))

    def forward(
        self, x: Tensor, condition: Tensor | None = None, noise_key: Tensor | None = None
    ) -> tuple[Tensor, Tensor] | Tensor:
        """Map counts to mu and logvar, or to a deterministic code, each [B, D].

        Args:
            x: [B, V] number of interactions of each user with each item, ``torch.sparse_csr`` or dense.
            condition: [B, C] conditions; None if ``condition_dim`` is 0.
            noise_key: int64 [3] key of the batch for dropout in training; None disables dropout.
        """
        crow, columns, values = compressed_rows(x)
        values = unit_rows(crow, values.to(self.bag.weight.dtype))
        if noise_key is not None and self.training and self.dropout:
            values = drop_entries(crow, columns, values, self.dropout, noise_key)
        return self._heads(self.condition(self.bag(crow, columns, values), condition))

    def of_dense(self, x: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        """Like `forward` in evaluation and without a condition, for a dense x [B, V], by operations whose shapes do not
        depend on values: for exported programs.
        """
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
        return self._heads(self.condition((x / length) @ self.bag.weight + self.bag.bias, None))

    def _heads(self, hidden: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        for layer in self.layers:
            hidden = layer(torch.tanh(hidden))
        if self.num_heads == 1:
            return hidden
        mu, logvar = hidden.chunk(2, dim=1)
        return mu, logvar


def compressed_rows(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The row offsets int64 [B + 1], columns int64 [N] and values [N] of the entries of x [B, V], sparse or dense."""
    if x.layout == torch.sparse_csr:
        return x.crow_indices().long(), x.col_indices().long(), x.values()
    if x.device.type != "cpu":
        return all_places(x)
    rows, columns = x.nonzero(as_tuple=True)
    crow = torch.zeros(x.shape[0] + 1, dtype=torch.int64)
    crow[1:] = (x != 0).sum(1).cumsum(0)
    return crow, columns, x[rows, columns]


def all_places(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The compressed rows of a dense x [B, V] including its zeros, so that N = B V depends on the shape only.

    Counting the nonzero entries would synchronise the host with the device. Zeros do not change the result.
    """
    rows, columns = x.shape
    crow = torch.arange(rows + 1, device=x.device) * columns
    return crow, torch.arange(columns, device=x.device).repeat(rows), x.flatten()


def rows_of(crow: Tensor, num_entries: int) -> Tensor:
    """The row of each entry of compressed rows, int64 [N]; passing N avoids reading it from ``crow`` on the device."""
    rows = torch.arange(len(crow) - 1, device=crow.device)
    return torch.repeat_interleave(rows, crow.diff(), output_size=num_entries)


def unit_rows(crow: Tensor, values: Tensor) -> Tensor:
    """Scale values [N] so that each row has Euclidean length 1; an empty row stays empty."""
    rows = rows_of(crow, len(values))
    squares = values.new_zeros(len(crow) - 1).index_add_(0, rows, values.square())
    return values * squares.clamp(min=1e-12).rsqrt()[rows]


def drop_entries(crow: Tensor, columns: Tensor, values: Tensor, rate: float, noise_key: Tensor) -> Tensor:
    """Apply dropout to values [N]: the noise of an entry depends on its row and column only."""
    stream = ops.stream(ops.Use.DROPOUT, ops.DropoutSite.INPUT)
    dropped = ops.philox_uniform_at(noise_key, rows_of(crow, len(columns)), columns, stream=stream) < rate
    return values.masked_fill(dropped, 0.0) * (1 / (1 - rate))


def _linear(fan_in: int, fan_out: int) -> nn.Linear:
    layer = nn.Linear(fan_in, fan_out)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
