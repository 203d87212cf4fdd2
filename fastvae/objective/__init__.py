"""Training objectives: ELBO, importance-weighted bound, KL schedules, free bits. Nats per example throughout."""

from typing import TYPE_CHECKING

from fastvae.lazy import lazy_names

if TYPE_CHECKING:
    from fastvae.objective.bounds import (
        FreeBits,
        Objective,
        build_objective,
        elbo,
        free_bits_mask,
        iw_bound,
        kl_weight_at,
        log_mean_exp,
    )
    from fastvae.objective.config import ObjectiveConfig

__all__ = [
    "FreeBits",
    "Objective",
    "ObjectiveConfig",
    "build_objective",
    "elbo",
    "free_bits_mask",
    "iw_bound",
    "kl_weight_at",
    "log_mean_exp",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "bounds": (
            "FreeBits",
            "Objective",
            "build_objective",
            "elbo",
            "free_bits_mask",
            "iw_bound",
            "kl_weight_at",
            "log_mean_exp",
        ),
        "config": ("ObjectiveConfig",),
    },
)
