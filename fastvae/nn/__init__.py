"""Encoders and decoders: plain modules, without loss, noise or ranks."""

from fastvae.nn.bag import BagEncoder, BagLinear
from fastvae.nn.condition import ConditionBias
from fastvae.nn.conv import ConvConfig, ConvDecoder, ConvEncoder
from fastvae.nn.linear import LinearEncoder
from fastvae.nn.mlp import MLP, Activation, MLPDecoder, MLPEncoder

__all__ = [
    "MLP",
    "Activation",
    "BagEncoder",
    "BagLinear",
    "ConditionBias",
    "ConvConfig",
    "ConvDecoder",
    "ConvEncoder",
    "LinearEncoder",
    "MLPDecoder",
    "MLPEncoder",
]
