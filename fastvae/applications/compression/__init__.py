"""Compression by a trained VAE: lossless by bits back coding, and lossy by quantised latents."""

from fastvae.applications.compression.files import (
    DEFAULT_LANES,
    DEFAULT_MAX_GIB,
    CompressionReport,
    compress_file,
    decompress_file,
)

__all__ = ["DEFAULT_LANES", "DEFAULT_MAX_GIB", "CompressionReport", "compress_file", "decompress_file"]
