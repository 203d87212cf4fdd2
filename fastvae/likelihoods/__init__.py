"""Likelihoods p(x|z): modules that turn a decoder's output into a distribution with a log probability per example.

A likelihood is called with the decoder's output and returns a bound record: ``log_prob(target)``, ``mean``, ``sample``.
Log probabilities are in nats per example, float32 at least under autocast too, summed over everything after the batch.
"""

from fastvae.likelihoods.base import (
    BoundLikelihood,
    LevelProbabilities,
    Likelihood,
    LikelihoodSettings,
    PixelLikelihood,
    PixelsInOrder,
    PixelStep,
)
from fastvae.likelihoods.bernoulli import Bernoulli, BoundBernoulli
from fastvae.likelihoods.beta_binomial import BetaBinomial, BoundBetaBinomial
from fastvae.likelihoods.categorical import BoundCategorical, Categorical, draw_tokens
from fastvae.likelihoods.discretized_logistic import BoundDiscretizedLogistic, DiscretizedLogistic
from fastvae.likelihoods.gaussian import BoundGaussian, Gaussian
from fastvae.likelihoods.level_mixture import LevelMixture
from fastvae.likelihoods.local_autoregressive import BoundLocalAutoregressive, LocalAutoregressive
from fastvae.likelihoods.multinomial import BoundMultinomial, Multinomial
from fastvae.likelihoods.support import Support
from fastvae.likelihoods.table import BoundTable, Table
from fastvae.likelihoods.wavefront import Window

__all__ = [
    "LIKELIHOODS",
    "Bernoulli",
    "BetaBinomial",
    "BoundBernoulli",
    "BoundBetaBinomial",
    "BoundCategorical",
    "BoundDiscretizedLogistic",
    "BoundGaussian",
    "BoundLikelihood",
    "BoundLocalAutoregressive",
    "BoundMultinomial",
    "BoundTable",
    "Categorical",
    "DiscretizedLogistic",
    "Gaussian",
    "LevelMixture",
    "LevelProbabilities",
    "Likelihood",
    "LikelihoodSettings",
    "LocalAutoregressive",
    "Multinomial",
    "PixelLikelihood",
    "PixelStep",
    "PixelsInOrder",
    "Support",
    "Table",
    "Window",
    "draw_tokens",
]

LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "discretized-logistic": DiscretizedLogistic,
    "beta-binomial": BetaBinomial,
    "local-autoregressive": LocalAutoregressive,
    "multinomial": Multinomial,
    "tokens": Categorical,
    "table": Table,
}
"""Likelihoods by name, as in ``--model.likelihood``; `fastvae.models.register_likelihood` adds a user's."""
