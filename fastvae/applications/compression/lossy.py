"""Lossy compression: entropy-coded posterior means on a grid, whose step trades bits for fidelity."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fastvae.applications.compression.coder import Coder
from fastvae.applications.compression.container import Words
from fastvae.applications.compression.integer_vae import Integers, IntegerVAE
from fastvae.applications.compression.pixel_file import Pixels

_CHUNK = 1024  # examples per call of the networks
_LARGEST = 2**14  # largest absolute value of a grid point; means beyond it are clipped
_LOG2_UNITS = 256  # log2 of steps and standard deviations are stored in units of 1/256
_MEAN_UNITS = 16  # means of the code are stored in units of 1/16 of a grid step
_LARGEST_LOG2 = 20  # largest log2 of a standard deviation in grid steps
_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True, kw_only=True)
class LatentQuantiser:
    """The grid of each latent dimension and the Gaussian under which its grid points are coded, as int16 arrays [D]."""

    log2_step: NDArray[np.int16]
    """log2 of the grid step in units of 1/256."""
    mean: NDArray[np.int16]
    """Mean of the grid points in units of 1/16 of a grid step."""
    log2_stddev: NDArray[np.int16]
    """log2 of the grid points' standard deviation (in grid steps) in units of 1/256."""

    @property
    def step(self) -> NDArray[np.float64]:
        """The grid step of each dimension, [D]."""
        step: NDArray[np.float64] = np.exp2(self.log2_step / _LOG2_UNITS)
        return step

    def gaussians(self) -> Iterator[tuple[float, float]]:
        """Yield mean and standard deviation of each dimension's grid points."""
        stddev = np.exp2(self.log2_stddev / _LOG2_UNITS).astype(np.float32)
        yield from zip((self.mean / _MEAN_UNITS).tolist(), stddev.tolist(), strict=True)

    def pack(self) -> str:
        """Encode as a JSON string."""
        table = np.stack((self.log2_step, self.mean, self.log2_stddev)).astype("<i2")
        return base64.b64encode(table.tobytes()).decode("ascii")

    @staticmethod
    def unpack(text: str, latent_dim: int) -> LatentQuantiser:
        """Decode the result of ``pack``.

        Raises:
            ValueError: the text is damaged, or belongs to another number of latent dimensions.
        """
        try:
            table = np.frombuffer(base64.b64decode(text, validate=True), dtype="<i2").astype(np.int16)
        except (ValueError, binascii.Error) as error:
            raise ValueError(f"the quantiser is damaged ({error})") from None
        if table.size != 3 * latent_dim:
            raise ValueError(f"the quantiser must have 3 numbers for {latent_dim} latents, got {table.size}")
        log2_step, mean, log2_stddev = table.reshape(3, latent_dim)
        if np.abs(log2_stddev.astype(np.int32)).max() > _LARGEST_LOG2 * _LOG2_UNITS:
            raise ValueError("the quantiser is damaged: a standard deviation is out of range")
        return LatentQuantiser(log2_step=log2_step, mean=mean, log2_stddev=log2_stddev)


@dataclass(frozen=True, kw_only=True)
class CodedLatents:
    """Lossily compressed examples."""

    words: Words
    """The code, uint32."""
    quantiser: LatentQuantiser
    """The grid of each latent dimension and its code."""
    points: Integers
    """int32 [N, D] grid points, to which the words decode."""


def compress_lossily(vae: IntegerVAE, pixels: Pixels, *, step: float) -> CodedLatents:
    """Encode the posterior means of ``pixels`` [N, P] on a grid of ``step`` posterior standard deviations.

    The grid step of a dimension is proportional to its posterior's standard deviation. Dimensions that matter little to
    the decoder therefore cost few bits, and unused dimensions cost none.

    Raises:
        ValueError: a pixel is not a level of the model, or ``step`` is not positive.
    """
    if not (math.isfinite(step) and step > 0):
        raise ValueError(f"compress: step must be a positive number of posterior standard deviations, got {step}")
    vae.check_pixels(pixels)
    moments = [vae.posterior_moments(pixels[i : i + _CHUNK]) for i in range(0, len(pixels), _CHUNK)]
    mu = torch.cat([mean for mean, _ in moments]).numpy()
    deviation = torch.cat([logvar for _, logvar in moments]).exp().mean(0).sqrt().numpy()
    log2_step = _int16(np.log2(step * deviation) * _LOG2_UNITS)
    points = np.round(mu / np.exp2(log2_step / _LOG2_UNITS)).clip(-_LARGEST, _LARGEST).astype(np.int32)
    quantiser = LatentQuantiser(
        log2_step=log2_step,
        mean=_int16(points.mean(0) * _MEAN_UNITS),
        log2_stddev=_int16(np.log2(points.std(0).clip(min=1e-3)) * _LOG2_UNITS),
    )
    coder = Coder(np.empty(0, dtype=np.uint32))
    for column, (mean, stddev) in zip(points.T, quantiser.gaussians(), strict=True):
        coder.push_integers(np.ascontiguousarray(column), -_LARGEST, _LARGEST, mean, stddev)
    return CodedLatents(words=coder.words(), quantiser=quantiser, points=points)


def decode_points(quantiser: LatentQuantiser, words: Words, num_examples: int) -> Integers:
    """Decode words to grid points [num_examples, D]; arbitrary ones if the words were made by different arithmetic."""
    coder = Coder(words)
    columns = [
        coder.pop_integers(num_examples, -_LARGEST, _LARGEST, mean, stddev)
        for mean, stddev in reversed(list(quantiser.gaussians()))
    ]
    return np.stack(columns[::-1], axis=1)


def draw_points(vae: IntegerVAE, quantiser: LatentQuantiser, points: Integers) -> Pixels:
    """Reconstruct pixels [N, P] from grid points [N, D]."""
    z = torch.from_numpy(points * quantiser.step)
    return np.concatenate([vae.expected_pixels(part) for part in z.split(_CHUNK)])


def _int16(values: NDArray[np.float64]) -> NDArray[np.int16]:
    return np.round(values).clip(_INT16.min, _INT16.max).astype(np.int16)
