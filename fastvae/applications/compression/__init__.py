"""Compression by a trained VAE: lossless by bits back coding, and lossy by quantised latents."""

from fastvae.applications.compression.files import CompressionReport, compress_file, decompress_file

__all__ = ["CompressionReport", "compress_file", "decompress_file"]
