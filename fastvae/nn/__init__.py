"""Encoder and decoder networks: plain modules that know no loss and no process group."""

from typing import TYPE_CHECKING

from fastvae.lazy import lazy_names

if TYPE_CHECKING:
    from fastvae.nn.bag import BagEncoder, BagLinear
    from fastvae.nn.condition import ConditionAffine, ConditionBias
    from fastvae.nn.config import Activation, Conditioning, ConvConfig
    from fastvae.nn.conv import ConvDecoder, ConvEncoder
    from fastvae.nn.dropout import KeyedDropout, drop_tokens
    from fastvae.nn.linear import LinearEncoder
    from fastvae.nn.mlp import MLP, MLPDecoder, MLPEncoder
    from fastvae.nn.recurrent import Cell, RecurrentDecoder, RecurrentEncoder
    from fastvae.nn.transformer import TransformerDecoder, TransformerEncoder

__all__ = [
    "MLP",
    "Activation",
    "BagEncoder",
    "BagLinear",
    "Cell",
    "ConditionAffine",
    "ConditionBias",
    "Conditioning",
    "ConvConfig",
    "ConvDecoder",
    "ConvEncoder",
    "KeyedDropout",
    "LinearEncoder",
    "MLPDecoder",
    "MLPEncoder",
    "RecurrentDecoder",
    "RecurrentEncoder",
    "TransformerDecoder",
    "TransformerEncoder",
    "drop_tokens",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "bag": ("BagEncoder", "BagLinear"),
        "condition": ("ConditionAffine", "ConditionBias"),
        "config": ("ConvConfig", "Activation", "Conditioning"),
        "conv": ("ConvDecoder", "ConvEncoder"),
        "dropout": ("KeyedDropout", "drop_tokens"),
        "linear": ("LinearEncoder",),
        "mlp": ("MLP", "MLPDecoder", "MLPEncoder"),
        "recurrent": ("Cell", "RecurrentDecoder", "RecurrentEncoder"),
        "transformer": ("TransformerDecoder", "TransformerEncoder"),
    },
)
