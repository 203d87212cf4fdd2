"""Encoders and decoders: plain modules, without loss, noise or ranks."""

from fastvae.nn.bag import BagEncoder, BagLinear
from fastvae.nn.condition import ConditionAffine, ConditionBias
from fastvae.nn.conv import ConvConfig, ConvDecoder, ConvEncoder
from fastvae.nn.dropout import KeyedDropout, drop_tokens
from fastvae.nn.linear import LinearEncoder
from fastvae.nn.mlp import MLP, Activation, MLPDecoder, MLPEncoder, Told
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
    "ConvConfig",
    "ConvDecoder",
    "ConvEncoder",
    "KeyedDropout",
    "LinearEncoder",
    "MLPDecoder",
    "MLPEncoder",
    "RecurrentDecoder",
    "RecurrentEncoder",
    "Told",
    "TransformerDecoder",
    "TransformerEncoder",
    "drop_tokens",
]
