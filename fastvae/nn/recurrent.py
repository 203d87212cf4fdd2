"""Recurrent networks over tokens: an encoder that reads a sentence, a decoder that predicts its next token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fastvae.nn.condition import ConditionBias
from fastvae.nn.dropout import KeyedDropout

Cell = Literal["gru", "lstm"]
Hidden = Tensor | tuple[Tensor, Tensor]  # [layers, N, H]; of an LSTM the pair (h, c)

_CELLS: dict[str, type[nn.GRU] | type[nn.LSTM]] = {"gru": nn.GRU, "lstm": nn.LSTM}


class RecurrentEncoder(nn.Module):
    """Token ids [B, T] -> GRU or LSTM -> mu and logvar [B, D] of q(z|x), from the state after the last token.

    The padding behind a sentence changes nothing.

    Args:
        num_tokens: V, size of the vocabulary.
        embedding_dim: width of a token's vector.
        hidden_dim: H, units of each layer.
        latent_dim: D.
        cell: "gru" (Cho et al. 2014, arXiv 1406.1078) or "lstm".
        num_layers: layers of cells.
        condition_dim: C, numbers in a condition; 0 for none.
        padding: the id that fills a row up behind its sentence.
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
        condition_dim: int = 0,
        padding: int = 0,
    ) -> None:
        super().__init__()
        self.latent_dim, self.padding = latent_dim, padding
        self.embedding = token_embedding(num_tokens, embedding_dim)
        self.condition = ConditionBias(condition_dim, embedding_dim)
        self.cells = _CELLS[cell](embedding_dim, hidden_dim, num_layers, batch_first=True)
        self.mu = nn.Linear(hidden_dim, latent_dim)
        self.logvar = nn.Linear(hidden_dim, latent_dim)

    def forward(self, tokens: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From token ids [B, T] to mu and logvar, each [B, D]."""
        outputs, _ = self.cells(self.condition(self.embedding(tokens), condition))
        last = (tokens != self.padding).sum(1).sub(1).clamp(min=0)
        hidden = outputs[torch.arange(len(tokens), device=tokens.device), last]
        return self.mu(hidden), self.logvar(hidden)


@dataclass(frozen=True)
class RecurrentState:
    """Where a decoder stands in N sentences."""

    bias: Tensor  # [N, E] what z and the condition add to every token's vector
    hidden: Hidden


class RecurrentDecoder(nn.Module):
    """z [N, D] and the tokens so far -> features [N, T, H] from which the next token is predicted.

    z gives the first state and is added to every token's vector, so that it is not forgotten along the sentence.

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
        super().__init__()
        self.num_layers, self.feature_dim = num_layers, hidden_dim
        self.embedding = token_embedding(num_tokens, embedding_dim)
        self.from_latent = nn.Linear(latent_dim, embedding_dim)
        self.condition = ConditionBias(condition_dim, embedding_dim)
        self.first_state = nn.Linear(latent_dim, num_layers * hidden_dim)
        self.cells = _CELLS[cell](embedding_dim, hidden_dim, num_layers, batch_first=True)
        self.dropout_in = KeyedDropout(dropout, site=1)
        self.dropout_out = KeyedDropout(dropout, site=2)

    def forward(
        self, z: Tensor, tokens: Tensor, condition: Tensor | None = None, noise_key: Tensor | None = None
    ) -> Tensor:
        """The features after each token.

        Args:
            z: [K * B, D], the K samples of an example B rows apart.
            tokens: [B, T] ids, each sentence from its begin on.
            condition: [K * B, C].
            noise_key: int64 [3] of the batch, for dropout; None for none.

        Returns:
            [K * B, T, H]; [:, t] knows the tokens up to t and nothing behind.
        """
        state = self.start(z, condition)
        num_samples = len(z) // len(tokens) if len(tokens) else 1
        vectors = self.dropout_in(self.embedding(tokens), noise_key)
        inputs = vectors.repeat(num_samples, 1, 1) + state.bias.unsqueeze(1)
        features, _ = self.cells(inputs, state.hidden)
        return self.dropout_out(features, noise_key, num_samples=num_samples)

    def start(self, z: Tensor, condition: Tensor | None = None) -> RecurrentState:
        """The state before the first token of N sentences, z [N, D] and condition [N, C]."""
        first = self.first_state(z).unflatten(1, (self.num_layers, -1)).transpose(0, 1).contiguous()
        hidden: Hidden = (first.tanh(), first) if isinstance(self.cells, nn.LSTM) else first.tanh()
        return RecurrentState(self.condition(self.from_latent(z), condition), hidden)

    def step(self, state: RecurrentState, tokens: Tensor) -> tuple[Tensor, RecurrentState]:
        """The features [N, H] after one more token [N] of each sentence, and the state there."""
        features, hidden = self.cells((self.embedding(tokens) + state.bias).unsqueeze(1), state.hidden)
        return features.squeeze(1), RecurrentState(state.bias, hidden)


def token_embedding(num_tokens: int, embedding_dim: int) -> nn.Embedding:
    """Vectors of tokens, started small enough that what is added to them counts from the first step on."""
    embedding = nn.Embedding(num_tokens, embedding_dim)
    nn.init.normal_(embedding.weight, std=embedding_dim**-0.5)
    return embedding
