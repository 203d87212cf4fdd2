"""fastvae: variational autoencoders from one process to a cluster. The list of public names, nothing else."""

from fastvae._version import __version__
from fastvae.data import Data, DataConfig, build_data
from fastvae.distributions import DiagonalGaussian, kl_divergence
from fastvae.likelihoods import Bernoulli, Gaussian
from fastvae.models import VAE, AutoEncoder, ModelConfig, ModelInputs, build_model
from fastvae.nn import MLPDecoder, MLPEncoder
from fastvae.objective import ObjectiveConfig, elbo, iw_bound
from fastvae.ops import noise_key
from fastvae.records import Batch, VAETerms
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
    "Gaussian",
    "LoadedRun",
    "MLPDecoder",
    "MLPEncoder",
    "ModelConfig",
    "ModelInputs",
    "ObjectiveConfig",
    "Run",
    "RunConfig",
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
