"""What all networks over tokens share: token embeddings, the condition, and the heads of q(z|x)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fastvae import ops
from fastvae.nn.condition import ConditionBias
from fastvae.nn.dropout import KeyedDropout

# At the start the tokens are louder than z: a decoder that hears z's noise above them learns to leave z alone.
_TOKEN_STD, _LATENT_STD = 0.5, 0.05


class TokenEncoder(nn.Module):
    """Token ids [B, T] -> vectors -> a summary of the sentence -> mu and logvar [B, D] of q(z|x).

    The padding behind a sentence changes nothing. A subclass gives `summary`.

    Args:
        num_tokens: V, size of the vocabulary.
        embedding_dim: E, width of a token's vector.
        summary_dim: S, width of the summary.
        latent_dim: D.
        condition_dim: C, numbers in a condition; 0 for none.
        padding: the id that fills a row up behind its sentence.
    """

    def __init__(
        self,
        num_tokens: int,
        embedding_dim: int,
        summary_dim: int,
        latent_dim: int,
        *,
        condition_dim: int = 0,
        padding: int = 0,
    ) -> None:
        super().__init__()
        self.latent_dim, self.padding = latent_dim, padding
        self.embedding = embedding(num_tokens, embedding_dim, _TOKEN_STD)
        self.condition = ConditionBias(condition_dim, embedding_dim)
        self.mu = nn.Linear(summary_dim, latent_dim)
        self.logvar = nn.Linear(summary_dim, latent_dim)

    def forward(self, tokens: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From token ids [B, T] and a condition [B, C] to mu and logvar, each [B, D]."""
        summary = self.summary(self.condition(self.embedding(tokens), condition), tokens != self.padding)
        return self.mu(summary), self.logvar(summary)

    def summary(self, vectors: Tensor, is_text: Tensor) -> Tensor:
        """The summary [B, S] of the vectors [B, T, E] of sentences, ``is_text`` [B, T] False on the padding."""
        raise NotImplementedError


class TokenDecoder(nn.Module):
    """z [N, D] and the tokens so far -> features [N, T, F] from which the next token is predicted.

    z and the condition are added to every token's vector, so that they are not forgotten along the sentence. A
    subclass gives `start`, `step` and `features`; the state that they hand on has ``bias`` [N, E], what is added.

    Args:
        num_tokens: V, size of the vocabulary.
        embedding_dim: E, width of a token's vector.
        feature_dim: F, width of the features.
        latent_dim: D.
        dropout: share of the units of the tokens' vectors that training loses.
        condition_dim: C, numbers in a condition; 0 for none.
    """

    def __init__(
        self,
        num_tokens: int,
        embedding_dim: int,
        feature_dim: int,
        latent_dim: int,
        *,
        dropout: float = 0.0,
        condition_dim: int = 0,
    ) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.embedding = embedding(num_tokens, embedding_dim, _TOKEN_STD)
        self.from_latent = nn.Linear(latent_dim, embedding_dim)
        nn.init.normal_(self.from_latent.weight, std=_LATENT_STD)
        self.condition = ConditionBias(condition_dim, embedding_dim)
        self.dropout = KeyedDropout(dropout, site=ops.DropoutSite.EMBEDDING)

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
            [K * B, T, F]; [:, t] knows the tokens up to t and nothing behind.
        """
        num_samples = len(z) // len(tokens) if len(tokens) else 1
        state = self.start(z, condition)
        vectors = self.dropout(self.vectors(tokens), noise_key).repeat(num_samples, 1, 1)
        return self.features(vectors + state.bias.unsqueeze(1), state, noise_key, num_samples)

    def vectors(self, tokens: Tensor) -> Tensor:
        """The vectors [B, T, E] of tokens [B, T] from the begin of their sentences on."""
        vectors: Tensor = self.embedding(tokens)
        return vectors

    def bias(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """What z [N, D] and the condition [N, C] add to every token's vector, [N, E]."""
        bias: Tensor = self.condition(self.from_latent(z), condition)
        return bias

    def start(self, z: Tensor, condition: Tensor | None = None) -> Any:
        """The state before the first token of N sentences, z [N, D] and condition [N, C]."""
        raise NotImplementedError

    def step(self, state: Any, tokens: Tensor) -> tuple[Tensor, Any]:
        """The features [N, F] after one more token [N] of each sentence, and the state there."""
        raise NotImplementedError

    def features(self, inputs: Tensor, state: Any, noise_key: Tensor | None, num_samples: int) -> Tensor:
        """The features [K * B, T, F] of whole sentences, whose ``inputs`` [K * B, T, E] hold the bias."""
        raise NotImplementedError


def embedding(num: int, dim: int, std: float) -> nn.Embedding:
    """Vectors of tokens, or of places, normal with a deviation of ``std`` in each unit at the start."""
    vectors = nn.Embedding(num, dim)
    nn.init.normal_(vectors.weight, std=std)
    return vectors
