"""Encoders and decoders: plain modules, without loss, noise or ranks."""

from fastvae.nn.linear import LinearEncoder
from fastvae.nn.mlp import MLP, Activation, MLPDecoder, MLPEncoder

__all__ = ["MLP", "Activation", "LinearEncoder", "MLPDecoder", "MLPEncoder"]
