"""Evaluation: bounds on the likelihood, and what the latent dimensions are used for."""

from fastvae.evaluate.bounds import Evaluation, evaluate, scores
from fastvae.evaluate.latent import ACTIVE_VARIANCE, LatentMoments

__all__ = ["ACTIVE_VARIANCE", "Evaluation", "LatentMoments", "evaluate", "scores"]
