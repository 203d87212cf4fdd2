"""Evaluation: bounds on the likelihood, and diagnostics of the latent dimensions."""

from fastvae.evaluate.bounds import Evaluation, combine_parts, evaluate, evaluation_part, scores
from fastvae.evaluate.latent import ACTIVE_VARIANCE, LatentMoments
from fastvae.evaluate.support import check_examples, check_support, support_of

__all__ = [
    "ACTIVE_VARIANCE",
    "Evaluation",
    "LatentMoments",
    "check_examples",
    "check_support",
    "combine_parts",
    "evaluate",
    "evaluation_part",
    "scores",
    "support_of",
]
