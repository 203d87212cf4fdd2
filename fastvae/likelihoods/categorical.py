"""Tokens of a vocabulary, scored from a decoder's features by an adaptive softmax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from fastvae import ops
from fastvae.likelihoods.base import (
    Likelihood,
    LikelihoodSettings,
    at_least_float32,
    event_stream,
)
from fastvae.model_inputs import ModelInputs

_CHUNK = 8192  # tokens that are scored at a time: limits temporary memory


class Categorical(Likelihood):
    """One of V tokens at each step; the decoder's output is features [..., T, H], the scores are parameters here.

    With cutoffs the softmax is the adaptive one of Grave et al. 2017 (arXiv 1609.04309): the first tokens are scored
    directly, rarer ones as p(cluster) p(token | cluster) through increasingly narrow layers, which only the tokens of
    that cluster use. The probabilities are exact and sum to 1; where frequent tokens have the small ids (as a
    `fastvae.data.Tokenizer` of words orders them) most of the work of a large vocabulary is saved.

    In training on a GPU all tokens use all layers: to select the tokens of a cluster, the host would have to wait for
    the device at every step. The narrow layers still save work there, the selection does not.

    Args:
        feature_dim: H.
        num_tokens: V.
        cutoffs: first IDs of the clusters, ascending; those that are not below V are ignored. () scores all
            tokens directly.
        narrowing: factor by which each cluster is narrower than the previous one.

    Raises:
        ValueError: the cutoffs do not ascend from above 0.
    """

    def __init__(
        self, feature_dim: int, num_tokens: int, *, cutoffs: Sequence[int] = (), narrowing: float = 4.0
    ) -> None:
        super().__init__()
        if any(low >= high for low, high in pairwise((0, *cutoffs))):
            raise ValueError(f"Categorical: cutoffs must ascend from above 0, got {list(cutoffs)}")
        self.num_tokens = num_tokens
        self.edges = (*(edge for edge in cutoffs if edge < num_tokens), num_tokens)
        self.head = nn.Linear(feature_dim, self.edges[0] + len(self.edges) - 1)
        self.clusters = nn.ModuleList(
            nn.Sequential(
                nn.Linear(feature_dim, width := max(1, int(feature_dim / narrowing**number)), bias=False),
                nn.Linear(width, high - low, bias=False),
            )
            for number, (low, high) in enumerate(pairwise(self.edges), start=1)
        )

    @classmethod
    def build(cls, config: LikelihoodSettings, inputs: ModelInputs) -> Categorical:
        """Build it for the data's vocabulary and the model's width.

        Raises:
            ValueError: the data are not token IDs, or the model has several widths.
        """
        if inputs.num_tokens is None:
            raise ValueError("model.likelihood=tokens: the data must be token IDs, got others; use another likelihood")
        if len(config.hidden_dim) != 1:
            raise ValueError(f"model.hidden_dim: likelihood tokens requires one width, got {list(config.hidden_dim)}")
        return cls(config.hidden_dim[0], inputs.num_tokens, cutoffs=config.text.cutoffs)

    def forward(self, features: Tensor) -> BoundCategorical:
        """The distribution over the tokens of each step, features [B, T, H] or [K, B, T, H]."""
        return BoundCategorical(features, self)

    def token_log_prob(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Log probability of each token [M] given its features [M, H], in nats, [M]."""
        head = log_softmax(at_least_float32(self.head(features)), 1)
        # The head ends with one entry for each cluster, which represents all of its tokens.
        entry = tokens.clamp(max=self.edges[0])
        for edge in self.edges[1:-1]:
            entry = entry + (tokens >= edge).to(torch.int64)
        result = head.gather(1, entry.unsqueeze(1)).squeeze(1)
        for (low, high), layers in zip(pairwise(self.edges), self.clusters, strict=True):
            is_inside = (tokens >= low) & (tokens < high)
            if may_wait(tokens):
                rows = is_inside.nonzero().squeeze(1)
                inside = log_softmax(at_least_float32(layers(features[rows])), 1)
                result = result.index_add(0, rows, inside.gather(1, (tokens[rows] - low).unsqueeze(1)).squeeze(1))
            else:
                inside = log_softmax(at_least_float32(layers(features)), 1)
                place = (tokens - low).clamp(0, high - low - 1)
                result = result + inside.gather(1, place.unsqueeze(1)).squeeze(1).where(is_inside, 0.0)
        return result

    def log_probs(self, features: Tensor) -> Tensor:
        """Log probability of every token, [..., V] nats, given features [..., H]."""
        head = log_softmax(at_least_float32(self.head(features)), -1)
        parts = [head[..., : self.edges[0]]]
        for number, layers in enumerate(self.clusters):
            of_cluster = head[..., self.edges[0] + number].unsqueeze(-1)
            parts.append(of_cluster + log_softmax(at_least_float32(layers(features)), -1))
        return torch.cat(parts, -1)


@dataclass(frozen=True)
class BoundCategorical:
    """Tokens, each step's independent of the others given its features."""

    features: Tensor  # [B, T, H] or [K, B, T, H]
    scores: Categorical

    @property
    def mean(self) -> Tensor:
        """The probability of every token at each step, [B, T, V] or [K, B, T, V]."""
        return self.scores.log_probs(self.features).exp()

    def log_prob(self, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log probability of the tokens, summed over the steps.

        Args:
            target: [B, T] token ids.
            mask: [B, T] True for tokens that count; the others take no time, except in training on a GPU.

        Returns:
            [B], or [K, B] if the features have K samples, in nats per sentence.
        """
        shape = self.features.shape[:-1]
        counts = (torch.ones_like(target, dtype=torch.bool) if mask is None else mask.bool()).expand(shape)
        if not may_wait(target):
            per_token = self._score(self.features.flatten(0, -2), target.expand(shape).flatten())
            return per_token.view(shape).where(counts, 0.0).sum(-1)
        scores = self._score(self.features[counts], target.expand(shape)[counts])
        return torch.zeros(shape, dtype=scores.dtype, device=target.device).masked_scatter(counts, scores).sum(-1)

    def _score(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Log probability of each token [M] given its features [M, H], in chunks."""
        chunks = zip(features.split(_CHUNK), tokens.split(_CHUNK), strict=True)
        return torch.cat([self.scores.token_log_prob(some, chosen) for some, chosen in chunks])

    def sample(self, noise_key: Tensor, *, stream: int | None = None) -> Tensor:
        """One token for each step, int64 [B, T] or [K, B, T]; row i has the noise of row first_row + i."""
        rows = self.features.flatten(1, -2) if self.features.dim() > 2 else self.features
        uniform = ops.philox_uniform(noise_key, *rows.shape[:2], stream=event_stream(stream))
        drawn = draw_tokens(self.scores.log_probs(rows), uniform)
        return drawn.view(self.features.shape[:-1])


def may_wait(tokens: Tensor) -> bool:
    """Whether shapes may depend on values: on the CPU, and outside of training."""
    return tokens.device.type == "cpu" or not torch.is_grad_enabled()


def draw_tokens(log_probs: Tensor, uniform: Tensor) -> Tensor:
    """A token [...] from scores [..., V] that need not sum to 1, by one uniform number [...] each: inversion."""
    total = torch.softmax(at_least_float32(log_probs), -1).cumsum(-1)
    place = torch.searchsorted(total, (uniform.to(total.dtype) * total[..., -1]).unsqueeze(-1), right=True).squeeze(-1)
    return place.clamp(max=log_probs.shape[-1] - 1)
