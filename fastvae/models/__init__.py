"""Models: modules that give the two halves of the ELBO for a batch, and know nothing of processes."""

from fastvae.models.autoencoder import AutoEncoder
from fastvae.models.config import ModelConfig, build_model
from fastvae.models.vae import VAE, as_batch

__all__ = ["VAE", "AutoEncoder", "ModelConfig", "as_batch", "build_model"]
