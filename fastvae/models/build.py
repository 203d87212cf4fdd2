"""Models from a config: what recipes and the command line build."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from fastvae.models.autoencoder.autoencoder import AutoEncoder
from fastvae.models.config import ModelConfig
from fastvae.models.parts import ModelInputs, Networks
from fastvae.models.registry import LIKELIHOODS, NETWORKS
from fastvae.models.vae.vae import VAE

T = TypeVar("T")

_NETWORKS_OF_KIND = {"autoencoder": ("mlp", "bag"), "linear-vae": ("mlp",)}  # a VAE is made of any


def build_model(
    config: ModelConfig, inputs: ModelInputs | Sequence[int], *, seed: int = 0, mean: Tensor | None = None
) -> VAE | AutoEncoder:
    """The model that ``config`` describes, on the CPU.

    Args:
        config: which model.
        inputs: what the model must know of its data; an event shape alone stands for data without conditions.
        seed: the weights are drawn from it alone; the global generator is left as it was.
        mean: the train set's mean example, where the decoder's output is to start; None starts it at 0.

    Returns:
        A module that honours ``forward(batch, noise_key) -> VAETerms``; its outputs have the event's shape.

    Raises:
        ValueError: no network or likelihood has the name that ``config`` gives, or they do not suit the data or a
            setting.
    """
    if not isinstance(inputs, ModelInputs):
        inputs = ModelInputs(event_shape=tuple(inputs))
    networks_of_kind = _NETWORKS_OF_KIND.get(config.kind)
    if networks_of_kind is not None and config.network not in networks_of_kind:
        known = " and ".join(networks_of_kind)
        raise ValueError(f"model.kind={config.kind} is for network {known} only, got {config.network}; set one of them")
    if config.told == "every" and config.network not in ("mlp", "hierarchical"):
        raise ValueError(
            f"model.told=every is for networks mlp and hierarchical, got {config.network}; leave it at first"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        likelihood = _find(LIKELIHOODS, "likelihood", config.likelihood)(config, inputs)
        if config.kind != "autoencoder":
            inputs = replace(inputs, likelihood_shape=_output_shape(likelihood, inputs.event_shape))
        networks = _find(NETWORKS, "network", config.network)(config, inputs)
    if mean is not None:
        _start_at(networks, mean if config.kind == "autoencoder" else _output_for_mean(likelihood, mean))
    return networks.model(networks.encoder, networks.decoder, likelihood, config.latent_dim)


def _output_shape(likelihood: nn.Module, event_shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """What the likelihood wants of the decoder for one example; None: the event's shape."""
    output_shape: Callable[[tuple[int, ...]], tuple[int, ...]] | None = getattr(likelihood, "output_shape", None)
    return None if output_shape is None else output_shape(event_shape)


def _output_for_mean(likelihood: nn.Module, mean: Tensor) -> Tensor | None:
    """The decoder's output whose expected x is the mean example; None for a likelihood that knows no such."""
    output_for_mean: Callable[[Tensor], Tensor] | None = getattr(likelihood, "output_for_mean", None)
    return None if output_for_mean is None else output_for_mean(mean.float())


def _start_at(networks: Networks, output: Tensor | None) -> None:
    """Start the decoder at this output, where it can."""
    set_output_bias: Callable[[Tensor], None] | None = getattr(networks.decoder, "set_output_bias", None)
    if output is not None and set_output_bias is not None:
        set_output_bias(output)


def _find(registry: Mapping[str, T], what: str, name: str) -> T:
    if name not in registry:
        near = difflib.get_close_matches(name, registry, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(registry)}"
        raise ValueError(f"model.{what}: no {what} is named {name!r}; {hint}")
    return registry[name]
