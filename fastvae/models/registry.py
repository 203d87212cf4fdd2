"""The names of networks and likelihoods: a new one is a file and one line here."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from fastvae.likelihoods import Bernoulli, DiscretizedLogistic, Gaussian, Multinomial, Table
from fastvae.models.config import ModelConfig
from fastvae.models.hierarchical.hierarchical import build_hierarchical
from fastvae.models.parts import ModelInputs, Networks
from fastvae.models.recommender.bag import build_bag
from fastvae.models.text.text import build_recurrent, build_tokens, build_transformer
from fastvae.models.vae.conv import build_conv
from fastvae.models.vae.mlp import build_mlp


def build_bernoulli(config: ModelConfig, inputs: ModelInputs) -> Bernoulli:
    """Binary pixels."""
    return Bernoulli()


def build_gaussian(config: ModelConfig, inputs: ModelInputs) -> Gaussian:
    """Real values with one learned variance, or one for each value."""
    variances = inputs.event_shape if config.likelihood_logvar == "per-dimension" else None
    return Gaussian(variances, logvar=config.likelihood_logvar_start, logvar_floor=config.likelihood_logvar_floor)


def build_discretized_logistic(config: ModelConfig, inputs: ModelInputs) -> DiscretizedLogistic:
    """Pixels of a few hundred levels.

    Raises:
        ValueError: the data are no such pixels, or were made continuous or binary.
    """
    if inputs.num_levels is None:
        raise ValueError(
            "model.likelihood=discretized-logistic: needs pixels of whole levels as they are;"
            " use 8-bit images with --data.binarize none --data.dequantize False, or another likelihood"
        )
    return DiscretizedLogistic(len(inputs.event_shape), inputs.num_levels)


def build_multinomial(config: ModelConfig, inputs: ModelInputs) -> Multinomial:
    """Counts over items."""
    return Multinomial()


def build_table(config: ModelConfig, inputs: ModelInputs) -> Table:
    """Columns of numbers and categories; of data without columns every value is a number."""
    widths = inputs.column_widths or (1,) * inputs.event_numel
    return Table(widths, logvar=config.likelihood_logvar_start, logvar_floor=config.likelihood_logvar_floor)


NETWORKS: dict[str, Callable[[ModelConfig, ModelInputs], Networks]] = {
    "mlp": build_mlp,
    "conv": build_conv,
    "hierarchical": build_hierarchical,
    "bag": build_bag,
    "gru": build_recurrent,
    "lstm": build_recurrent,
    "transformer": build_transformer,
}
LIKELIHOODS: dict[str, Callable[[ModelConfig, ModelInputs], nn.Module]] = {
    "bernoulli": build_bernoulli,
    "gaussian": build_gaussian,
    "discretized-logistic": build_discretized_logistic,
    "multinomial": build_multinomial,
    "tokens": build_tokens,
    "table": build_table,
}
