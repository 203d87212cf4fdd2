"""Transformers over tokens: an encoder with full self-attention and a decoder with causal self-attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from fastvae import ops
from fastvae.nn.dropout import KeyedDropout
from fastvae.nn.tokens import TokenDecoder, TokenEncoder, embedding

Cache = tuple[Tensor, Tensor]  # keys and values [N, heads, T, E / heads] of the previous tokens


class TransformerEncoder(TokenEncoder):
    """Token ids [B, T] -> blocks of self-attention -> mean over the sentence -> mu and logvar [B, D] of q(z|x).

    Args:
        num_tokens: V, size of the vocabulary.
        embedding_dim: E, width of every layer (Vaswani et al. 2017, arXiv 1706.03762).
        latent_dim: D, size of the latent.
        max_length: largest number of tokens of a sentence, including its end token.
        num_layers: number of blocks.
        num_heads: number of attention heads of each block, each of size E / num_heads.
        others: passed on to `TokenEncoder`.
    """

    def __init__(
        self,
        num_tokens: int,
        embedding_dim: int,
        latent_dim: int,
        *,
        max_length: int,
        num_layers: int = 2,
        num_heads: int = 4,
        **others: Any,
    ) -> None:
        super().__init__(num_tokens, embedding_dim, embedding_dim, latent_dim, **others)
        self.position = embedding(max_length, embedding_dim, embedding_dim**-0.5)
        self.blocks = nn.ModuleList(TransformerBlock(embedding_dim, num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(embedding_dim)

    def summary(self, vectors: Tensor, is_text: Tensor) -> Tensor:
        """The mean of the blocks' outputs over the tokens of each sentence, [B, E]."""
        hidden = vectors + self.position.weight[: vectors.shape[1]]
        for block in self.blocks:
            hidden, _ = block(hidden, mask=is_text[:, None, None, :])
        weight = is_text / is_text.sum(1, keepdim=True).clamp(min=1)
        mean: Tensor = (self.norm(hidden) * weight.unsqueeze(2)).sum(1)
        return mean


@dataclass(frozen=True)
class TransformerState:
    """The state of a decoder after the tokens so far of N sentences."""

    bias: Tensor
    """[N, E] vector that is added to all token embeddings of a sentence, a function of z and the condition."""
    caches: tuple[Cache, ...]
    """Key-value cache of each block; empty before the first token."""
    position: int
    """Number of tokens so far."""

    def select(self, rows: Tensor) -> TransformerState:
        """The state of the sentences ``rows`` int64 [M]; a row may be repeated."""
        caches = tuple((key[rows], value[rows]) for key, value in self.caches)
        return TransformerState(self.bias[rows], caches, self.position)


class TransformerDecoder(TokenDecoder):
    """z [N, D] and the previous tokens -> features [N, T, E], from which the next token is predicted.

    A linear function of z is added to every token's embedding as in Li et al. 2020 (arXiv 2004.04092, "embedding").

    Args:
        num_tokens: V, size of the vocabulary.
        embedding_dim: E, width of every layer and of the features.
        latent_dim: D, size of the latent.
        max_length: largest number of tokens of a sentence, including its end token.
        num_layers: number of blocks.
        num_heads: number of attention heads of each block, each of size E / num_heads.
        dropout: dropout probability of the embeddings and in every block.
        condition_dim: C, size of the condition; 0 for none.
    """

    def __init__(
        self,
        num_tokens: int,
        embedding_dim: int,
        latent_dim: int,
        *,
        max_length: int,
        num_layers: int = 2,
        num_heads: int = 4,
        dropout: float = 0.0,
        condition_dim: int = 0,
    ) -> None:
        sizes = (num_tokens, embedding_dim, embedding_dim, latent_dim)
        super().__init__(*sizes, dropout=dropout, condition_dim=condition_dim)
        self.position = embedding(max_length, embedding_dim, embedding_dim**-0.5)
        sites = (ops.DropoutSite.layer(2 * i) for i in range(num_layers))
        self.blocks = nn.ModuleList(TransformerBlock(embedding_dim, num_heads, dropout, site=site) for site in sites)
        self.norm = nn.LayerNorm(embedding_dim)

    def vectors(self, tokens: Tensor) -> Tensor:
        """The sums [B, T, E] of token and position embeddings."""
        return super().vectors(tokens) + self.position.weight[: tokens.shape[1]]

    def features(self, inputs: Tensor, state: TransformerState, noise_key: Tensor | None, num_samples: int) -> Tensor:
        """Compute the features [K * B, T, E] of whole sentences."""
        for block in self.blocks:
            inputs, _ = block(inputs, is_causal=True, noise_key=noise_key, num_samples=num_samples)
        return self.norm(inputs)

    def start(self, z: Tensor, condition: Tensor | None = None) -> TransformerState:
        """The initial state of N sentences, given z [N, D] and the condition [N, C]."""
        return TransformerState(self.bias(z, condition), (), 0)

    def step(self, state: TransformerState, tokens: Tensor) -> tuple[Tensor, TransformerState]:
        """Process the next token [N] of each sentence and return the features [N, E] and the new state."""
        vectors = self.embedding(tokens) + self.position.weight[state.position] + state.bias
        hidden, caches = vectors.unsqueeze(1), []
        for number, block in enumerate(self.blocks):
            hidden, cache = block(hidden, cache=state.caches[number] if state.caches else None)
            caches.append(cache)
        return self.norm(hidden).squeeze(1), TransformerState(state.bias, tuple(caches), state.position + 1)


class TransformerBlock(nn.Module):
    """A pre-norm Transformer block as in GPT-2: self-attention and a two-layer network with residual connections.

    Args:
        width: E, size of the hidden units.
        num_heads: number of attention heads, each of size E / num_heads.
        dropout: dropout probability before each addition.
        site: noise site of the first dropout layer; the second layer uses ``site + 1``.

    Raises:
        ValueError: the width is not a multiple of the number of heads.
    """

    def __init__(self, width: int, num_heads: int, dropout: float = 0.0, *, site: int = ops.DropoutSite.LAYERS) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"TransformerBlock: width must be a multiple of num_heads, got {width} and {num_heads}")
        self.num_heads = num_heads
        self.attention_norm, self.network_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.attention_output = nn.Linear(width, width)
        self.network = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.attention_dropout = KeyedDropout(dropout, site=site)
        self.network_dropout = KeyedDropout(dropout, site=site + 1)

    def forward(
        self,
        hidden: Tensor,
        *,
        mask: Tensor | None = None,
        is_causal: bool = False,
        cache: Cache | None = None,
        noise_key: Tensor | None = None,
        num_samples: int = 1,
    ) -> tuple[Tensor, Cache]:
        """Apply the block.

        Args:
            hidden: [N, T, E].
            mask: [N, 1, 1, T], True for tokens that may be attended to.
            is_causal: if True, a token attends only to itself and to previous tokens.
            cache: keys and values of the tokens before ``hidden``.
            noise_key: int64 [3] key of the batch for dropout; None disables dropout.
            num_samples: K if N = K * B.

        Returns:
            The hidden units [N, T, E] and the keys and values of all tokens so far.
        """
        parts = self.queries_keys_values(self.attention_norm(hidden)).unflatten(2, (3, self.num_heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each [N, heads, T, E / heads]
        if cache is not None:
            key, value = torch.cat((cache[0], key), 2), torch.cat((cache[1], value), 2)
        attended = scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=is_causal)
        update = self.attention_output(attended.transpose(1, 2).flatten(2))
        hidden = hidden + self.attention_dropout(update, noise_key, num_samples=num_samples)
        update = self.network(self.network_norm(hidden))
        return hidden + self.network_dropout(update, noise_key, num_samples=num_samples), (key, value)
