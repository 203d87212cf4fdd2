"""Base classes of the networks over tokens: token embeddings, the condition, and the heads of q(z|x)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fastvae import ops
from fastvae.nn.condition import ConditionBias
from fastvae.nn.dropout import KeyedDropout

# Initially the embeddings are larger than z's contribution: if z's noise dominates, the decoder learns to ignore z.
_TOKEN_STD, _LATENT_STD = 0.5, 0.05


class TokenEncoder(nn.Module):
    """Token ids [B, T] -> embeddings -> a summary of the sentence -> mu and logvar [B, D] of q(z|x).

    The result does not depend on the padding after a sentence. Subclasses define `summary`.

    Args:
        num_tokens: V, size of the vocabulary.
        embedding_dim: E, size of a token's embedding.
        summary_dim: S, size of the summary.
        latent_dim: D, size of the latent.
        condition_dim: C, size of the condition; 0 for none.
        padding: id of the padding token.
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
        """Map token ids [B, T] and a condition [B, C] to mu and logvar, each [B, D]."""
        summary = self.summary(self.condition(self.embedding(tokens), condition), tokens != self.padding)
        return self.mu(summary), self.logvar(summary)

    def summary(self, vectors: Tensor, is_text: Tensor) -> Tensor:
        """Summarise the embeddings of sentences.

        Args:
            vectors: [B, T, E] token embeddings.
            is_text: [B, T], False for padding.

        Returns:
            [B, S] summaries.
        """
        raise NotImplementedError


class TokenDecoder(nn.Module):
    """z [N, D] and the previous tokens -> features [N, T, F], from which the next token is predicted.

    Linear functions of z and of the condition are added to every token's embedding, so that they are available at every
    step. Subclasses define `start`, `step` and `features`; their state has a field ``bias`` [N, E], which is added to
    the embeddings.

    Args:
        num_tokens: V, size of the vocabulary.
        embedding_dim: E, size of a token's embedding.
        feature_dim: F, size of the features.
        latent_dim: D, size of the latent.
        dropout: dropout probability of the embeddings.
        condition_dim: C, size of the condition; 0 for none.
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
        """Compute the features after each token.

        Args:
            z: [K * B, D], the K samples of an example B rows apart.
            tokens: [B, T] token ids of whole sentences.
            condition: [K * B, C] conditions; None if ``condition_dim`` is 0.
            noise_key: int64 [3] key of the batch for dropout; None disables dropout.

        Returns:
            [K * B, T, F] features; [:, t] depends on the tokens up to t only.
        """
        num_samples = len(z) // len(tokens) if len(tokens) else 1
        state = self.start(z, condition)
        vectors = self.dropout(self.vectors(tokens), noise_key).repeat(num_samples, 1, 1)
        return self.features(vectors + state.bias.unsqueeze(1), state, noise_key, num_samples)

    def vectors(self, tokens: Tensor) -> Tensor:
        """The embeddings [B, T, E] of the tokens [B, T] of whole sentences."""
        vectors: Tensor = self.embedding(tokens)
        return vectors

    def bias(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """The vector [N, E] that is added to every token's embedding, given z [N, D] and the condition [N, C]."""
        bias: Tensor = self.condition(self.from_latent(z), condition)
        return bias

    def start(self, z: Tensor, condition: Tensor | None = None) -> Any:
        """The initial state of N sentences, given z [N, D] and the condition [N, C]."""
        raise NotImplementedError

    def step(self, state: Any, tokens: Tensor) -> tuple[Tensor, Any]:
        """Process the next token [N] of each sentence and return the features [N, F] and the new state."""
        raise NotImplementedError

    def features(self, inputs: Tensor, state: Any, noise_key: Tensor | None, num_samples: int) -> Tensor:
        """Compute the features [K * B, T, F] of whole sentences from their biased embeddings [K * B, T, E]."""
        raise NotImplementedError


def embedding(num: int, dim: int, std: float) -> nn.Embedding:
    """An embedding of tokens or positions, initialised by normal noise with standard deviation ``std``."""
    vectors = nn.Embedding(num, dim)
    nn.init.normal_(vectors.weight, std=std)
    return vectors
