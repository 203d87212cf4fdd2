"""Posterior collapse: latent units that carry no information about x at several consecutive evaluations."""

from __future__ import annotations

from fastvae.evaluate import Evaluation
from fastvae.train.watch.config import CollapseConfig


def is_collapsed(config: CollapseConfig, evaluation: Evaluation) -> bool:
    """Whether too few latent units were active; False for a model without latent units."""
    if config.min_active is None or evaluation.active_units is None or not evaluation.latent_units:
        return False
    return evaluation.active_units < config.min_active * evaluation.latent_units


def advice(config: CollapseConfig, evaluation: Evaluation, *, is_final: bool = False) -> str:
    """Return the warning for a collapsed run.

    Args:
        config: the limits.
        evaluation: the newest evaluation.
        is_final: whether it is the evaluation that ends the run.
    """
    active, units = evaluation.active_units, evaluation.latent_units
    when = "the final evaluation" if is_final else f"the last {config.evaluations} evaluations"
    return (
        f"posterior collapse: {active} of {units} latent units were active at {when}, fewer than the"
        f" fraction --train.collapse.min-active {config.min_active:g} requires; raise the KL weight slowly"
        " (--train.objective.kl-schedule linear --train.objective.kl-warmup N), give each unit free bits"
        " (--train.objective.free-bits 0.1), or use a weaker decoder"
    )
