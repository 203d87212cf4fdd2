"""Build models from a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fastvae.likelihoods import LIKELIHOODS
from fastvae.models.autoencoder.autoencoder import AutoEncoder
from fastvae.models.config import ModelConfig
from fastvae.models.parts import ModelInputs
from fastvae.models.registry import check_model, find_family
from fastvae.models.vae.vae import VAE


def build_model(
    config: ModelConfig, inputs: ModelInputs | Sequence[int], *, seed: int = 0, mean: Tensor | None = None
) -> VAE | AutoEncoder:
    """Build the model of ``config`` on the CPU.

    Args:
        config: settings of the model.
        inputs: sizes of the data; an event shape alone means data without conditions.
        seed: seed of the initial weights; the state of the global generator is unchanged.
        mean: mean of the training set, to which the decoder's output is initialised; None is 0.

    Returns:
        A module with ``forward(batch, noise_key) -> VAETerms``; its outputs have the event's shape.

    Raises:
        ValueError: the family, network or likelihood of ``config`` is unknown, or they do not fit each other or the
            data.
    """
    if not isinstance(inputs, ModelInputs):
        inputs = ModelInputs(event_shape=tuple(inputs))
    check_model(config)
    family = find_family(config.family)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        likelihood = LIKELIHOODS[config.likelihood].build(config, inputs) if family.likelihoods else None
        if likelihood is not None:
            inputs = replace(inputs, likelihood_shape=likelihood.output_shape(inputs.event_shape))
        networks = family.build(config, inputs)
    if mean is not None and networks.set_output_bias is not None:
        output = mean if likelihood is None else likelihood.output_for_mean(mean.float())
        if output is not None:
            networks.set_output_bias(output)
    return networks.model(networks.encoder, networks.decoder, likelihood, config.latent_dim)
