"""Recurrent networks over tokens: an encoder that reads a sentence, a decoder that predicts its next token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from fastvae import ops
from fastvae.nn.dropout import KeyedDropout
from fastvae.nn.tokens import TokenDecoder, TokenEncoder

Cell = Literal["gru", "lstm"]
Hidden = Tensor | tuple[Tensor, Tensor]  # [layers, N, H]; of an LSTM the pair (h, c)

_CELLS: dict[str, type[nn.GRU] | type[nn.LSTM]] = {"gru": nn.GRU, "lstm": nn.LSTM}


class RecurrentEncoder(TokenEncoder):
    """Token ids [B, T] -> GRU or LSTM -> the largest value of each unit -> mu and logvar [B, D] of q(z|x).

    The largest values know the whole sentence, where the last state knows its end best (Long et al. 2019, "Preventing
    posterior collapse in sequence VAEs with pooling", arXiv 1911.03976).

    Args:
        num_tokens: V, size of the vocabulary.
        embedding_dim: width of a token's vector.
        hidden_dim: H, units of each layer.
        latent_dim: D.
        cell: "gru" (Cho et al. 2014, arXiv 1406.1078) or "lstm".
        num_layers: layers of cells.
        others: as `TokenEncoder`.
    """

    def __init__(
        self,
        num_tokens: int,
        embedding_dim: int,
        hidden_dim: int,
        latent_dim: int,
        *,
        cell: Cell = "gru",
        num_layers: int = 1,
        **others: Any,
    ) -> None:
        super().__init__(num_tokens, embedding_dim, hidden_dim, latent_dim, **others)
        self.cells = _CELLS[cell](embedding_dim, hidden_dim, num_layers, batch_first=True)

    def summary(self, vectors: Tensor, is_text: Tensor) -> Tensor:
        """The largest value [B, H] of each unit over the tokens of each sentence."""
        outputs, _ = self.cells(vectors)
        largest: Tensor = outputs.masked_fill(~is_text.unsqueeze(2), -1.0).amax(1)  # a cell's outputs are above -1
        return largest


@dataclass(frozen=True)
class RecurrentState:
    """Where a decoder stands in N sentences."""

    bias: Tensor  # [N, E] what z and the condition add to every token's vector
    hidden: Hidden

    def select(self, rows: Tensor) -> RecurrentState:
        """Where it stands in other sentences: in these rows [M] int64, which may occur more than once."""
        hidden = self.hidden
        chosen = hidden[:, rows] if isinstance(hidden, Tensor) else (hidden[0][:, rows], hidden[1][:, rows])
        return RecurrentState(self.bias[rows], chosen)


class RecurrentDecoder(TokenDecoder):
    """z [N, D] and the tokens so far -> features [N, T, H] from which the next token is predicted.

    z gives the first state, too.

    Args:
        num_tokens: V, size of the vocabulary.
        embedding_dim: E, width of a token's vector.
        hidden_dim: H, units of each layer, and the width of the features.
        latent_dim: D.
        cell: "gru" or "lstm".
        num_layers: layers of cells.
        dropout: share of the tokens' vectors' units, and of the features, that training loses.
        condition_dim: C, numbers in a condition; 0 for none.
    """

    def __init__(
        self,
        num_tokens: int,
        embedding_dim: int,
        hidden_dim: int,
        latent_dim: int,
        *,
        cell: Cell = "gru",
        num_layers: int = 1,
        dropout: float = 0.0,
        condition_dim: int = 0,
    ) -> None:
        sizes = (num_tokens, embedding_dim, hidden_dim, latent_dim)
        super().__init__(*sizes, dropout=dropout, condition_dim=condition_dim)
        self.num_layers = num_layers
        self.first_state = nn.Linear(latent_dim, num_layers * hidden_dim)
        self.cells = _CELLS[cell](embedding_dim, hidden_dim, num_layers, batch_first=True)
        self.dropout_out = KeyedDropout(dropout, site=ops.DropoutSite.layer(0))

    def features(self, inputs: Tensor, state: RecurrentState, noise_key: Tensor | None, num_samples: int) -> Tensor:
        """The features [K * B, T, H] of whole sentences."""
        features, _ = self.cells(inputs, state.hidden)
        return self.dropout_out(features, noise_key, num_samples=num_samples)

    def start(self, z: Tensor, condition: Tensor | None = None) -> RecurrentState:
        """The state before the first token of N sentences, z [N, D] and condition [N, C]."""
        first = self.first_state(z).unflatten(1, (self.num_layers, -1)).transpose(0, 1).contiguous()
        hidden: Hidden = (first.tanh(), first) if isinstance(self.cells, nn.LSTM) else first.tanh()
        return RecurrentState(self.bias(z, condition), hidden)

    def step(self, state: RecurrentState, tokens: Tensor) -> tuple[Tensor, RecurrentState]:
        """The features [N, H] after one more token [N] of each sentence, and the state there."""
        features, hidden = self.cells((self.embedding(tokens) + state.bias).unsqueeze(1), state.hidden)
        return features.squeeze(1), RecurrentState(state.bias, hidden)
