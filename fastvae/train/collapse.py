"""Posterior collapse: latent units that say nothing about x any more, evaluation after evaluation."""

from __future__ import annotations

from dataclasses import dataclass

from fastvae.evaluate import Evaluation
from fastvae.settings import Settings


@dataclass(frozen=True, kw_only=True)
class CollapseConfig(Settings):
    """When a run warns that its decoder ignores the latent."""

    min_active: float | None = 0.1
    """Warn where less than this part of the latent units is active; None for off."""
    evaluations: int = 3
    """For so many evaluations in a row."""

    def __post_init__(self) -> None:
        if self.min_active is not None and not 0 < self.min_active <= 1:
            raise ValueError(f"train.collapse.min_active must be in (0, 1], or None for off, got {self.min_active}")
        if self.evaluations < 1:
            raise ValueError(f"train.collapse.evaluations must be at least 1, got {self.evaluations}")


def is_collapsed(config: CollapseConfig, evaluation: Evaluation) -> bool:
    """Whether too few latent units were active; False for a model without any."""
    if config.min_active is None or evaluation.active_units is None or not evaluation.latent_units:
        return False
    return evaluation.active_units < config.min_active * evaluation.latent_units


def advice(config: CollapseConfig, evaluation: Evaluation) -> str:
    """What a person is told once a run has collapsed."""
    active, units = evaluation.active_units, evaluation.latent_units
    return (
        f"posterior collapse: {active} of {units} latent units were active at the last {config.evaluations} "
        f"evaluations, fewer than --train.collapse.min-active {config.min_active:g} asks for; raise the KL weight "
        "slowly (--train.objective.kl-schedule linear --train.objective.kl-warmup-steps N), give each unit free bits "
        "(--train.objective.free-bits 0.1), or take a weaker decoder"
    )
