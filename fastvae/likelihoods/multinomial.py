"""Counts under a multinomial: how often each item was chosen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fastvae import ops
from fastvae.likelihoods.base import Likelihood, at_least_float32, event_stream
from fastvae.likelihoods.support import Support


@dataclass(frozen=True)
class BoundMultinomial:
    """Each of an example's choices is item v with probability ``softmax(logits)_v``."""

    logits: Tensor  # [B, V] or [K, B, V]

    @property
    def mean(self) -> Tensor:
        """The probability of each item for one choice, the shape of the logits."""
        return torch.softmax(at_least_float32(self.logits), dim=-1)

    def log_prob(self, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """``sum_v target_v log softmax(logits)_v``, in nats per example, without the multinomial coefficient.

        The coefficient does not depend on the model, and published results omit it (Liang et al. 2018,
        arXiv 1802.05814, equation 2).

        Args:
            target: [B, V] counts, dense or ``torch.sparse_csr``.
            mask: [B, V] with dense counts only: if it is 0, the item's count is treated as 0.

        Returns:
            [B], or [K, B] if the logits have K samples.

        Raises:
            ValueError: a mask with sparse counts; omit the items instead.
        """
        if mask is not None:
            if target.layout != torch.strided:
                raise ValueError("Multinomial: a mask requires dense counts; omit the masked items from sparse ones")
            target = target * mask.to(target.dtype)
        return -ops.multinomial_nll(self.logits, target)

    def sample(self, noise_key: Tensor, *, stream: int | None = None) -> Tensor:
        """Sample one choice for each row of the logits, as counts: a single 1. Row i has the noise of row first_row +
        i.
        """
        cumulative = self.mean.cumsum(-1)
        rows = cumulative.flatten(0, -2)
        uniform = ops.philox_uniform(noise_key, len(rows), 1, stream=event_stream(stream))
        chosen = torch.searchsorted(rows, uniform * rows[:, -1:]).clamp(max=rows.shape[1] - 1)
        return torch.zeros_like(rows).scatter_(1, chosen, 1.0).view_as(cumulative)


class Multinomial(Likelihood):
    """Counts over items: the decoder's output is their logits. It has no parameters."""

    support = Support(low=0, is_whole=True)

    def forward(self, output: Tensor) -> BoundMultinomial:
        """The distribution whose logits are ``output``, [B, V] or [K, B, V]."""
        return BoundMultinomial(output)
