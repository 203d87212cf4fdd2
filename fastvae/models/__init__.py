"""Models: modules that give the two halves of the ELBO for a batch, and know nothing of processes."""

from typing import TYPE_CHECKING

from fastvae.lazy import lazy_names

if TYPE_CHECKING:
    from fastvae.models.autoencoder.autoencoder import AutoEncoder
    from fastvae.models.build import build_model
    from fastvae.models.config import ModelConfig, RecommenderConfig, TextConfig
    from fastvae.models.parts import ModelInputs, Networks
    from fastvae.models.recommender.recommender import MultDAE, MultVAE
    from fastvae.models.registry import LIKELIHOODS, NETWORKS
    from fastvae.models.text.text import TextVAE
    from fastvae.models.vae.vae import VAE, as_batch

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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "autoencoder.autoencoder": ("AutoEncoder",),
        "build": ("build_model",),
        "config": ("ModelConfig", "TextConfig", "RecommenderConfig"),
        "parts": ("ModelInputs", "Networks"),
        "recommender.recommender": ("MultDAE", "MultVAE"),
        "registry": ("LIKELIHOODS", "NETWORKS"),
        "text.text": ("TextVAE",),
        "vae.vae": ("VAE", "as_batch"),
    },
)
