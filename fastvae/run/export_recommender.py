"""The scorer of a recommender as a program: the items of each user to the best items that the user does not have."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastvae.models.recommender.recommender import MultDAE, MultVAE
from fastvae.nn import BagEncoder
from fastvae.run.loaded import LoadedRun


class TopItems(nn.Module):
    """From the items of each user, indices of the catalogue, to the ``num`` best other items.

    Args:
        run: a run that trained a recommender.
        num: number of items per user.

    Raises:
        ValueError: the model is not Mult-VAE or Mult-DAE without a condition, or ``num`` is not in 1 .. V.
    """

    def __init__(self, run: LoadedRun, num: int) -> None:
        super().__init__()
        model = run.model
        if not isinstance(model, MultVAE | MultDAE) or not isinstance(model.encoder, BagEncoder):
            raise ValueError(
                f"export: the scorer of interactions must be Mult-VAE or Mult-DAE, got {type(model).__name__}"
            )
        if run.data.conditions is not None:
            raise ValueError("export: the scorer of a recommender has no condition; train without --data.condition")
        self.num_items = run.data.event_shape[0]
        if not 1 <= num <= self.num_items:
            raise ValueError(f"export: --num must be in 1 .. {self.num_items}, the number of items, got {num}")
        self.encoder, self.decoder, self.likelihood, self.num = model.encoder, model.decoder, model.likelihood, num

    def forward(self, known: Tensor) -> tuple[Tensor, Tensor]:
        """The best items and their probabilities.

        Args:
            known: int64 [B, L] indices of the items that each user has, at least one, padded with -1.

        Returns:
            int64 [B, num] indices, best first, and float [B, num] probabilities of being chosen next. Items that the
            user has come last, with probability -inf.
        """
        # An index of V or more is an error of scatter; padding adds 0 to the first item.
        has = torch.zeros(known.shape[0], self.num_items, device=known.device)
        has = (has.scatter_add(1, known.clamp(min=0), (known >= 0).to(has.dtype)) > 0).to(has.dtype)
        heads = self.encoder.of_dense(has)
        code = torch.tanh(heads) if isinstance(heads, Tensor) else heads[0]
        scores = self.likelihood(self.decoder(code)).mean
        best = torch.where(has > 0, -torch.inf, scores).topk(self.num, dim=1)
        return best.indices, best.values


def example_users(run: LoadedRun) -> Tensor:
    """Two users with three places for items, int64 [2, 3]."""
    return torch.tensor([[0, 1, -1], [1, -1, -1]], device=run.device).clamp(max=run.data.event_shape[0] - 1)
