"""Models: modules that give the two halves of the ELBO for a batch, and know nothing of processes."""

from fastvae.models.autoencoder import AutoEncoder
from fastvae.models.build import build_model
from fastvae.models.config import ModelConfig, TextConfig
from fastvae.models.parts import ModelInputs, Networks
from fastvae.models.recommender import MultDAE, MultVAE, RecommenderConfig
from fastvae.models.registry import LIKELIHOODS, NETWORKS
from fastvae.models.text import TextVAE
from fastvae.models.vae import VAE, as_batch

__all__ = [
    "LIKELIHOODS",
    "NETWORKS",
    "VAE",
    "AutoEncoder",
    "ModelConfig",
    "ModelInputs",
    "MultDAE",
    "MultVAE",
    "Networks",
    "RecommenderConfig",
    "TextConfig",
    "TextVAE",
    "as_batch",
    "build_model",
]
