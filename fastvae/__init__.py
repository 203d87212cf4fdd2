"""fastvae: variational autoencoders from one process to a cluster. The list of public names, nothing else.

A name is imported when it is first used: ``import fastvae`` alone imports no PyTorch.
"""

from typing import TYPE_CHECKING

from fastvae._version import __version__
from fastvae.lazy import lazy_names

if TYPE_CHECKING:
    from fastvae import bench as bench
    from fastvae import data as data
    from fastvae import distributed as distributed
    from fastvae import evaluate as evaluate
    from fastvae import figures as figures
    from fastvae import likelihoods as likelihoods
    from fastvae import models as models
    from fastvae import nn as nn
    from fastvae import objective as objective
    from fastvae import ops as ops
    from fastvae import own_settings as own_settings
    from fastvae import plugins as plugins
    from fastvae import recipes as recipes
    from fastvae import records as records
    from fastvae import run as run
    from fastvae import sklearn as sklearn
    from fastvae.data import Data, DataConfig, build_data
    from fastvae.distributions import DiagonalGaussian, GaussianPrior, Prior, StandardNormal, kl_divergence
    from fastvae.likelihoods import Bernoulli, Gaussian
    from fastvae.models import VAE, AutoEncoder, ModelConfig, ModelInputs, build_model
    from fastvae.nn import MLPDecoder, MLPEncoder
    from fastvae.objective import ObjectiveConfig, elbo, iw_bound
    from fastvae.ops import noise_key
    from fastvae.records import Batch, Draw, VAETerms
    from fastvae.run import LoadedRun, RunConfig, load
    from fastvae.train import Run, TrainConfig, load_weights, train

__all__ = [
    "VAE",
    "AutoEncoder",
    "Batch",
    "Bernoulli",
    "Data",
    "DataConfig",
    "DiagonalGaussian",
    "Draw",
    "Gaussian",
    "GaussianPrior",
    "LoadedRun",
    "MLPDecoder",
    "MLPEncoder",
    "ModelConfig",
    "ModelInputs",
    "ObjectiveConfig",
    "Prior",
    "Run",
    "RunConfig",
    "StandardNormal",
    "TrainConfig",
    "VAETerms",
    "__version__",
    "build_data",
    "build_model",
    "elbo",
    "iw_bound",
    "kl_divergence",
    "load",
    "load_weights",
    "noise_key",
    "train",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "data": ("Data", "DataConfig", "build_data"),
        "distributions": ("DiagonalGaussian", "GaussianPrior", "Prior", "StandardNormal", "kl_divergence"),
        "likelihoods": ("Bernoulli", "Gaussian"),
        "models": ("VAE", "AutoEncoder", "ModelConfig", "ModelInputs", "build_model"),
        "nn": ("MLPDecoder", "MLPEncoder"),
        "objective": ("ObjectiveConfig", "elbo", "iw_bound"),
        "ops": ("noise_key",),
        "records": ("Batch", "Draw", "VAETerms"),
        "run": ("LoadedRun", "RunConfig", "load"),
        "train": ("Run", "TrainConfig", "load_weights"),
    },
    modules=(
        "bench", "cli", "cluster", "commands", "data", "distributed", "distributions", "doctor", "evaluate", "figures",
        "likelihoods", "models", "nn", "objective", "ops", "own_settings", "plugins", "recipes",
        "records", "run", "sklearn", "train", "verify",
    ),
)  # fmt: skip
