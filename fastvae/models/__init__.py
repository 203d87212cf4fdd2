"""Models: modules that return the two terms of the ELBO of a batch. They do not depend on the number of processes."""

from typing import TYPE_CHECKING

from fastvae.lazy import lazy_names

if TYPE_CHECKING:
    from fastvae.models.autoencoder.autoencoder import AutoEncoder
    from fastvae.models.build import build_model
    from fastvae.models.config import ModelConfig
    from fastvae.models.family import Family, Network
    from fastvae.models.hierarchical.config import HierarchyConfig
    from fastvae.models.parts import ModelInputs, Networks
    from fastvae.models.recommender.config import RecommenderConfig
    from fastvae.models.recommender.recommender import MultDAE, MultVAE
    from fastvae.models.registry import (
        FAMILIES,
        check_model,
        model_preset,
        register_family,
        register_likelihood,
        used_options,
        users_of,
        with_preset,
    )
    from fastvae.models.text.config import TextConfig
    from fastvae.models.text.text import TextVAE
    from fastvae.models.vae.vae import VAE, as_batch

__all__ = [
    "FAMILIES",
    "VAE",
    "AutoEncoder",
    "Family",
    "HierarchyConfig",
    "ModelConfig",
    "ModelInputs",
    "MultDAE",
    "MultVAE",
    "Network",
    "Networks",
    "RecommenderConfig",
    "TextConfig",
    "TextVAE",
    "as_batch",
    "build_model",
    "check_model",
    "model_preset",
    "register_family",
    "register_likelihood",
    "used_options",
    "users_of",
    "with_preset",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "autoencoder.autoencoder": ("AutoEncoder",),
        "build": ("build_model",),
        "config": ("ModelConfig",),
        "family": ("Family", "Network"),
        "hierarchical.config": ("HierarchyConfig",),
        "parts": ("ModelInputs", "Networks"),
        "recommender.config": ("RecommenderConfig",),
        "recommender.recommender": ("MultDAE", "MultVAE"),
        "registry": (
            "FAMILIES",
            "check_model",
            "model_preset",
            "register_family",
            "register_likelihood",
            "used_options",
            "users_of",
            "with_preset",
        ),
        "text.config": ("TextConfig",),
        "text.text": ("TextVAE",),
        "vae.vae": ("VAE", "as_batch"),
    },
)
