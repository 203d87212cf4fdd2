"""Transformers over tokens: an encoder that sees the whole sentence, a decoder that sees what came before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from fastvae import ops
from fastvae.nn.dropout import KeyedDropout
from fastvae.nn.tokens import TokenDecoder, TokenEncoder, embedding

Cache = tuple[Tensor, Tensor]  # keys and values [N, heads, T, E / heads] of the tokens so far


class TransformerEncoder(TokenEncoder):
    """Token ids [B, T] -> blocks of self-attention -> mean over the sentence -> mu and logvar [B, D] of q(z|x).

    Args:
        num_tokens: V, size of the vocabulary.
        embedding_dim: E, width of every layer (Vaswani et al. 2017, arXiv 1706.03762).
        latent_dim: D.
        max_length: the most tokens of a sentence, its end included.
        num_layers: blocks.
        num_heads: heads of each block's attention; they share E.
        others: as `TokenEncoder`.
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
        """The mean [B, E] over each sentence of what the blocks make of it."""
        hidden = vectors + self.position.weight[: vectors.shape[1]]
        for block in self.blocks:
            hidden, _ = block(hidden, mask=is_text[:, None, None, :])
        weight = is_text / is_text.sum(1, keepdim=True).clamp(min=1)
        mean: Tensor = (self.norm(hidden) * weight.unsqueeze(2)).sum(1)
        return mean


@dataclass(frozen=True)
class TransformerState:
    """Where a decoder stands in N sentences."""

    bias: Tensor  # [N, E] what z and the condition add to every token's vector
    caches: tuple[Cache, ...]  # of each block; empty before the first token
    position: int  # tokens so far

    def select(self, rows: Tensor) -> TransformerState:
        """Where it stands in other sentences: in these rows [M] int64, which may occur more than once."""
        caches = tuple((key[rows], value[rows]) for key, value in self.caches)
        return TransformerState(self.bias[rows], caches, self.position)


class TransformerDecoder(TokenDecoder):
    """z [N, D] and the tokens so far -> features [N, T, E] from which the next token is predicted.

    z is added to every token's vector as in Li et al. 2020 (arXiv 2004.04092, "embedding").

    Args:
        num_tokens: V, size of the vocabulary.
        embedding_dim: E, width of every layer and of the features.
        latent_dim: D.
        max_length: the most tokens of a sentence, its end included.
        num_layers: blocks.
        num_heads: heads of each block's attention; they share E.
        dropout: share of units that training loses, after the vectors and in every block.
        condition_dim: C, numbers in a condition; 0 for none.
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
        """The vectors [B, T, E] of tokens and of their places."""
        return super().vectors(tokens) + self.position.weight[: tokens.shape[1]]

    def features(self, inputs: Tensor, state: TransformerState, noise_key: Tensor | None, num_samples: int) -> Tensor:
        """The features [K * B, T, E] of whole sentences."""
        for block in self.blocks:
            inputs, _ = block(inputs, is_causal=True, noise_key=noise_key, num_samples=num_samples)
        return self.norm(inputs)

    def start(self, z: Tensor, condition: Tensor | None = None) -> TransformerState:
        """The state before the first token of N sentences, z [N, D] and condition [N, C]."""
        return TransformerState(self.bias(z, condition), (), 0)

    def step(self, state: TransformerState, tokens: Tensor) -> tuple[Tensor, TransformerState]:
        """The features [N, E] after one more token [N] of each sentence, and the state there."""
        vectors = self.embedding(tokens) + self.position.weight[state.position] + state.bias
        hidden, caches = vectors.unsqueeze(1), []
        for number, block in enumerate(self.blocks):
            hidden, cache = block(hidden, cache=state.caches[number] if state.caches else None)
            caches.append(cache)
        return self.norm(hidden).squeeze(1), TransformerState(state.bias, tuple(caches), state.position + 1)


class TransformerBlock(nn.Module):
    """Self-attention and a two-layer network, each added to what it reads normalised (pre-norm, as GPT-2).

    Args:
        width: E.
        num_heads: heads; they share E.
        dropout: share of units lost before each addition.
        site: of the dropout's noise; the block takes two.

    Raises:
        ValueError: the width is no multiple of the heads.
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
        """Hidden units [N, T, E] after the block, and the keys and values so far.

        Args:
            hidden: [N, T, E].
            mask: [N, 1, 1, T] True where a token may be looked at.
            is_causal: whether a token sees only itself and those before.
            cache: keys and values of tokens before ``hidden``.
            noise_key: int64 [3] of the batch, for dropout; None for none.
            num_samples: K, where the rows are K * B.
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
