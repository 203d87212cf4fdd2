"""Models from a config: what recipes and the command line build."""

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
    """The model that ``config`` describes, on the CPU.

    Args:
        config: which model.
        inputs: what the model must know of its data; an event shape alone stands for data without conditions.
        seed: the initial weights depend on it alone; the global generator's state is unchanged.
        mean: the training set's mean example, at which the decoder's output starts; None starts it at 0.

    Returns:
        A module that honours ``forward(batch, noise_key) -> VAETerms``; its outputs have the event's shape.

    Raises:
        ValueError: no family, network or likelihood has the name that ``config`` gives, or they do not suit each other
            or the data.
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
