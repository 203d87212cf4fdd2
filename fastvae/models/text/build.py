"""Networks of the text family: recurrent or transformer, on both sides."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fastvae.models.config import ModelConfig
from fastvae.models.parts import ModelInputs, Networks
from fastvae.models.text.text import TextVAE
from fastvae.nn import Cell, RecurrentDecoder, RecurrentEncoder, TransformerDecoder, TransformerEncoder


def build(config: ModelConfig, inputs: ModelInputs) -> Networks:
    """Build the networks of ``config.network``.

    Raises:
        ValueError: the data are not token IDs, or the model has several widths.
    """
    return _build_transformer(config, inputs) if config.network == "transformer" else _build_recurrent(config, inputs)


def _build_recurrent(config: ModelConfig, inputs: ModelInputs) -> Networks:
    """Build a GRU or LSTM."""
    num_tokens, text = _num_tokens(inputs), config.text
    sizes = (num_tokens, text.embedding_dim, _width(config), config.latent_dim)
    cell: Cell = "lstm" if config.network == "lstm" else "gru"
    encoder = RecurrentEncoder(*sizes, cell=cell, num_layers=text.num_layers, condition_dim=inputs.condition_dim)
    decoder = RecurrentDecoder(
        *sizes, cell=cell, num_layers=text.num_layers, dropout=text.dropout, condition_dim=inputs.condition_dim
    )
    return Networks(encoder, decoder, _model(config, inputs))


def _build_transformer(config: ModelConfig, inputs: ModelInputs) -> Networks:
    """Transformers of width ``config.hidden_dim``."""
    sizes = (_num_tokens(inputs), _width(config), config.latent_dim)
    text, longest, condition_dim = config.text, inputs.event_shape[0], inputs.condition_dim
    shape = {"num_layers": text.num_layers, "num_heads": text.num_heads}
    encoder = TransformerEncoder(*sizes, max_length=longest, condition_dim=condition_dim, **shape)
    decoder = TransformerDecoder(*sizes, max_length=longest, dropout=text.dropout, condition_dim=condition_dim, **shape)
    return Networks(encoder, decoder, _model(config, inputs))


def _model(config: ModelConfig, inputs: ModelInputs) -> Callable[..., TextVAE]:
    return partial(
        TextVAE,
        max_length=inputs.event_shape[0] - 1,
        length_columns=inputs.condition_columns.get("length"),
        word_dropout=config.text.word_dropout,
        temperature=config.text.temperature,
        beam_width=config.text.beam_width,
        no_repeat=config.text.no_repeat,
    )


def _num_tokens(inputs: ModelInputs) -> int:
    if inputs.num_tokens is None:
        raise ValueError("model.family=text: the data must be token IDs, got others; use family vae for numbers")
    return inputs.num_tokens


def _width(config: ModelConfig) -> int:
    if len(config.hidden_dim) != 1:
        raise ValueError(f"model.hidden_dim: network {config.network} needs one width, got {list(config.hidden_dim)}")
    return config.hidden_dim[0]
