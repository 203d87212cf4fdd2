"""Recurrent networks over tokens: an encoder of sentences, and a decoder that predicts the next token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from fastvae import ops
from fastvae.nn.dropout import KeyedDropout
from fastvae.nn.tokens import TokenDecoder, TokenEncoder

Cell = Literal["gru", "lstm"]
Hidden = Tensor | tuple[Tensor, Tensor]  # [layers, N, H]; for an LSTM the pair (h, c)

_CELLS: dict[str, type[nn.GRU] | type[nn.LSTM]] = {"gru": nn.GRU, "lstm": nn.LSTM}


class RecurrentEncoder(TokenEncoder):
    """Token ids [B, T] -> GRU or LSTM -> max pooling over time -> mu and logvar [B, D] of q(z|x).

    Max pooling summarises the whole sentence, whereas the last state mostly reflects its end (Long et al. 2019,
    "Preventing posterior collapse in sequence VAEs with pooling", arXiv 1911.03976).

    Args:
        num_tokens: V, size of the vocabulary.
        embedding_dim: size of a token's embedding.
        hidden_dim: H, number of units of each layer.
        latent_dim: D, size of the latent.
        cell: "gru" (Cho et al. 2014, arXiv 1406.1078) or "lstm".
        num_layers: number of recurrent layers.
        others: passed on to `TokenEncoder`.
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
        """The maximum of each unit over the tokens of each sentence, [B, H]."""
        outputs, _ = self.cells(vectors)
        largest: Tensor = outputs.masked_fill(~is_text.unsqueeze(2), -1.0).amax(1)  # all outputs are above -1
        return largest


@dataclass(frozen=True)
class RecurrentState:
    """The state of a decoder after the tokens so far of N sentences."""

    bias: Tensor
    """[N, E] vector that is added to all token embeddings of a sentence, a function of z and the condition."""
    hidden: Hidden
    """State of the recurrent layers."""

    def select(self, rows: Tensor) -> RecurrentState:
        """The state of the sentences ``rows`` int64 [M]; a row may be repeated."""
        hidden = self.hidden
        chosen = hidden[:, rows] if isinstance(hidden, Tensor) else (hidden[0][:, rows], hidden[1][:, rows])
        return RecurrentState(self.bias[rows], chosen)


class RecurrentDecoder(TokenDecoder):
    """z [N, D] and the previous tokens -> features [N, T, H], from which the next token is predicted.

    z also determines the initial state.

    Args:
        num_tokens: V, size of the vocabulary.
        embedding_dim: E, size of a token's embedding.
        hidden_dim: H, number of units of each layer and size of the features.
        latent_dim: D, size of the latent.
        cell: "gru" or "lstm".
        num_layers: number of recurrent layers.
        dropout: dropout probability of the embeddings and of the features.
        condition_dim: C, size of the condition; 0 for none.
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
        """Compute the features [K * B, T, H] of whole sentences."""
        features, _ = self.cells(inputs, state.hidden)
        return self.dropout_out(features, noise_key, num_samples=num_samples)

    def start(self, z: Tensor, condition: Tensor | None = None) -> RecurrentState:
        """The initial state of N sentences, given z [N, D] and the condition [N, C]."""
        first = self.first_state(z).unflatten(1, (self.num_layers, -1)).transpose(0, 1).contiguous()
        hidden: Hidden = (first.tanh(), first) if isinstance(self.cells, nn.LSTM) else first.tanh()
        return RecurrentState(self.bias(z, condition), hidden)

    def step(self, state: RecurrentState, tokens: Tensor) -> tuple[Tensor, RecurrentState]:
        """Process the next token [N] of each sentence and return the features [N, H] and the new state."""
        features, hidden = self.cells((self.embedding(tokens) + state.bias).unsqueeze(1), state.hidden)
        return features.squeeze(1), RecurrentState(state.bias, hidden)
