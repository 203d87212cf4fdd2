"""Muon for matrices, AdamW for all other parameters, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn


class MuonWithAdamW(torch.optim.Optimizer):
    """PyTorch's Muon (Jordan et al. 2024) for two-dimensional parameters, and its AdamW for all others.

    The updates of Muon are scaled as AdamW's are (Liu et al. 2025, arXiv 2502.16982), so one learning rate suits both.
    Matrices have weight decay, other parameters have none.

    Args:
        parameters: the parameters.
        lr: learning rate.
        weight_decay: decoupled weight decay of matrices and of parameters of more dimensions.
        momentum: momentum of Muon.
        betas, eps: of AdamW.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        *,
        lr: float,
        weight_decay: float,
        momentum: float,
        betas: tuple[float, float],
        eps: float,
    ) -> None:
        matrices = [p for p in parameters if p.dim() == 2]
        others = [
            {"params": [p for p in parameters if p.dim() > 2], "weight_decay": weight_decay},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ]
        others = [group for group in others if group["params"]]
        self._parts: list[torch.optim.Optimizer] = []
        if matrices:
            muon = torch.optim.Muon(
                matrices, lr=lr, weight_decay=weight_decay, momentum=momentum, adjust_lr_fn="match_rms_adamw"
            )
            self._parts.append(muon)
        if others:
            self._parts.append(torch.optim.AdamW(others, lr=lr, betas=betas, eps=eps, fused=True))
        self._num_groups = [len(part.param_groups) for part in self._parts]
        super().__init__([group for part in self._parts for group in part.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all parameters; state and groups are those of this optimizer, also after ``load_state_dict``."""
        if closure is not None:
            raise ValueError("MuonWithAdamW: a closure is not supported; compute the gradients before the step")
        first = 0
        for part, num_groups in zip(self._parts, self._num_groups, strict=True):
            part.state, part.param_groups = self.state, self.param_groups[first : first + num_groups]
            part.step()
            first += num_groups

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_parts": self._parts, "_num_groups": self._num_groups}
