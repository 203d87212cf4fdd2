"""Digests that decide whether a file can be decoded: of a model's weights and of this machine's arithmetic."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fastvae import ops
from fastvae._version import __version__
from fastvae.applications.compression.coder import Coder
from fastvae.applications.compression.integer_vae import IntegerVAE
from fastvae.applications.compression.pixel_file import Pixels

_PROBE_SEED = 0x50524F42
_PROBE_EXAMPLES = 16
_PROBE_STEP = 2.0**-6
_DIGEST_BYTES = 16  # 128 bits: an accidental collision is practically impossible


def weights_digest(model: nn.Module) -> str:
    """Compute a digest of the names, types, shapes and bytes of a model's parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()[: 2 * _DIGEST_BYTES]


def arithmetic_digest(vae: IntegerVAE) -> str:
    """Compute a digest of the decoder's arithmetic on a fixed input.

    It covers the rounded posteriors, the pixel probabilities and the words that the coder makes of them, so that it
    depends on PyTorch, NumPy, the entropy coder and the processor. Machines that differ only by round-off errors,
    which the rounding absorbs, have the same digest.
    """
    pixels = _probe_pixels(vae)
    posterior = vae.posterior(pixels, _PROBE_STEP)
    z = np.round(posterior.mean).astype(np.int32)
    codes = list(vae.pixel_codes(z, _PROBE_STEP, pixels))
    counts = [code.counts_below(torch.full((len(pixels), len(code.columns)), vae.levels // 2)) for code in codes]
    coder = Coder(np.empty(0, dtype=np.uint32))
    coder.push_pixels(pixels, codes)
    coder.push_prior(z, _PROBE_STEP)
    coder.push_posterior(z, posterior, _PROBE_STEP)
    digest = hashlib.sha256()
    for array in (posterior.mean, posterior.stddev, torch.cat(counts, 1).numpy(), coder.words()):
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()[: 2 * _DIGEST_BYTES]


def array_digest(array: NDArray[np.integer[Any]]) -> str:
    """Compute a digest of decoded integers: pixels or grid points."""
    return hashlib.sha256(array.astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()[: 2 * _DIGEST_BYTES]


def versions() -> str:
    """The versions of the packages and the processor type that take part in coding, for error messages."""
    packages = {"fastvae": __version__, "torch": torch.__version__, "numpy": np.__version__}
    packages["constriction"] = importlib.metadata.version("constriction")  # it has no __version__
    return ", ".join([*(f"{name} {version}" for name, version in packages.items()), platform.machine()])


def _probe_pixels(vae: IntegerVAE) -> Pixels:
    key = ops.noise_key(_PROBE_SEED)
    integers = ops.philox_integers(key, _PROBE_EXAMPLES, vae.num_pixels).numpy().astype(np.int64)
    pixels: Pixels = ((integers & 0xFFFF) % vae.levels).astype(np.uint8)
    return pixels
