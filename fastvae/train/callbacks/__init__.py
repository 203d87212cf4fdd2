"""Callbacks: what happens in addition to the steps of a run. `callback.Callback` is the base class of a user's own."""

from __future__ import annotations

from fastvae.train.callbacks.callback import Callback, Callbacks, RunView
from fastvae.train.callbacks.pictures import Pictures
from fastvae.train.callbacks.validation import BestWeights, EarlyStopping, Plateau
from fastvae.train.config import TrainConfig

__all__ = ["BestWeights", "Callback", "Callbacks", "EarlyStopping", "Pictures", "Plateau", "RunView", "from_config"]


def from_config(config: TrainConfig) -> tuple[Callback, ...]:
    """Return the callbacks that the settings ask for; the best weights are copied before a run may stop."""
    callbacks: list[Callback] = []
    stopping, plateau = config.early_stopping, config.plateau
    if config.keep_best:
        callbacks.append(BestWeights())
    if plateau.patience is not None:
        callbacks.append(Plateau(plateau.patience, plateau.factor, plateau.min_factor))
    if stopping.patience is not None:
        callbacks.append(EarlyStopping(stopping.patience, stopping.min_delta))
    if config.pictures_every is not None:
        callbacks.append(Pictures(config.pictures_every))
    return tuple(callbacks)
