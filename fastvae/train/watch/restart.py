"""Re-initialise the decoder after autoencoder pre-training: so that the decoder uses the z of a trained encoder."""

from __future__ import annotations

import torch
from torch import Tensor

from fastvae.distributed import Strategy
from fastvae.train.config import TrainConfig
from fastvae.train.state import PlayerState, copy_into


class DecoderRestart:
    """Reset all parameters but the encoder's to their initial values after autoencoder pre-training.

    A decoder that is trained together with an untrained encoder ignores z, and the posterior collapses. Here the
    encoder is pre-trained as an autoencoder's, and a new decoder then finds an informative z (Li et al. 2019, "A
    surprisingly effective fix for deep latent variable modeling of text", arXiv 1909.00868).

    The initial weights are those of the model before a checkpoint is loaded; so the restart is a function of the step,
    and a resumed run behaves in the same way. The optimizer's averages of these weights restart at 0, and the moving
    average at the initial weights.

    Args:
        strategy: strategy of the player whose decoder is reset; contains the model as it was built.
        config: ``objective.autoencoder_phase`` is the step of the restart; 0 for never.

    Raises:
        ValueError: the model has no part named encoder.
    """

    def __init__(self, strategy: Strategy, config: TrainConfig) -> None:
        self._strategy, self._step = strategy, config.objective.autoencoder_phase
        self._first: dict[str, Tensor] = {}
        if not self._step:
            return
        parameters = strategy.full_precision_parameters()
        self._first = {name: p.clone() for name, p in parameters.items() if not name.startswith("encoder.")}
        if len(self._first) == len(parameters):
            raise ValueError("train.objective.autoencoder_phase: the model must have a part named encoder; set it to 0")

    @torch.no_grad()
    def __call__(self, step: int, player: PlayerState) -> None:
        """Restart the decoder, and its moving average in ``player``, if the run stands at that step."""
        if not self._first or step != self._step:
            return
        copy_into(self._strategy.full_precision_parameters(), self._first)
        copy_into(player.ema, {name: value for name, value in self._first.items() if name in player.ema})
        for name, parameter in self._strategy.trained.named_parameters():
            if name in self._first:
                for value in self._strategy.optimizer.state[parameter].values():
                    if isinstance(value, Tensor):
                        value.zero_()
