"""A VAE as functions on integers, so that sender and receiver compute the same code.

Entropy coding breaks when the receiver's probabilities differ from the sender's by one unit in the last place. The
networks therefore run in float64 on one thread, and everything that the coder sees is rounded to integers far coarser
than float64's round-off: two machines that sum in another order still agree but for about one value in 10**9, and a
decoder notices when they do not.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastvae.applications.compression.pixel_file import Pixels
from fastvae.data import Data, Preprocess
from fastvae.distributions import StandardNormal
from fastvae.likelihoods import PixelLikelihood
from fastvae.models import VAE

Floats = NDArray[np.float64]
Integers = NDArray[np.int32]

PROBABILITY_BITS = 22  # cumulative counts of pixels are in units of 2**-22
LATENT_LIMIT = 8.0  # the latents' grid covers -8 .. 8 standard deviations of the prior
_MEAN_UNITS = 16  # posterior means are rounded to this part of a grid step
_SCALE_UNITS = 16  # posterior deviations are rounded to 2**(1/16)


@dataclass(frozen=True, kw_only=True)
class GridPosterior:
    """q(z|x) on the grid of latents, in grid steps, rounded."""

    mean: Floats  # [B * D]
    stddev: Floats  # [B * D]


class IntegerVAE:
    """A trained VAE of discrete pixels; see the module.

    Args:
        model: the VAE; a float64 copy is made.
        data: the data that it was trained on, which say what a pixel is to the networks.

    Raises:
        ValueError: the model is no unconditional VAE, or its likelihood gives discrete pixels no probabilities.
    """

    def __init__(self, model: torch.nn.Module, data: Data) -> None:
        preprocess = data.preprocess
        if not isinstance(model, VAE) or model.latent_shape is None or model.latent_dim is None:
            raise ValueError(f"compression needs a VAE with a latent dimension, got {type(model).__name__}")
        if type(model).forward is not VAE.forward or type(model.prior) is not StandardNormal:
            found = f"a {type(model).__name__} with prior {type(model.prior).__name__}"
            raise ValueError(f"compression needs one layer of latents under N(0, I), got {found}")
        if getattr(data, "conditions", None) is not None:
            raise ValueError(f"{data.name}: compression knows no conditions; train the model without data.condition")
        if not isinstance(preprocess, Preprocess) or preprocess.levels is None:
            raise ValueError(f"{data.name}: lossless compression is for discrete pixels, these are continuous")
        self._model = copy.deepcopy(model).double().cpu().eval().requires_grad_(False)
        self._preprocess = preprocess
        self.event_shape = tuple(data.event_shape)
        self.num_pixels = math.prod(self.event_shape)
        self.latent_dim, self._latent_shape = model.latent_dim, model.latent_shape
        self.levels = 2 if preprocess.binarize else preprocess.levels

    def check_pixels(self, pixels: Pixels) -> None:
        """ValueError where a pixel is not one of the model's levels."""
        if (highest := int(pixels.max())) >= self.levels:
            hint = "; binarise the file first" if self.levels == 2 else ""
            raise ValueError(f"pixels must be in 0 .. {self.levels - 1} for this model, got {highest}{hint}")

    def inputs(self, pixels: Pixels) -> Tensor:
        """What the encoder reads for ``pixels`` [B, P]: float64 [B, *event_shape]."""
        x = torch.from_numpy(pixels.astype(np.float64)).view(-1, *self.event_shape)
        if self._preprocess.dequantize:
            return (x + 0.5) / self.levels
        return x / (self.levels - 1)

    def expected_pixels(self, z: Tensor) -> Pixels:
        """The level nearest to the mean of p(x|z) for latents [B, D]: uint8 [B, P]."""
        with one_thread():
            z = z.double().view(-1, *self._latent_shape)
            mean = _finite(self._model.decode(z).mean, "reconstructions").reshape(len(z), self.num_pixels)
        if self._preprocess.dequantize:
            levels = torch.floor(mean * self.levels)
        else:
            levels = torch.round(mean * (self.levels - 1))
        pixels: Pixels = levels.clamp(0, self.levels - 1).numpy().astype(np.uint8)
        return pixels

    def posterior_moments(self, pixels: Pixels) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z|x), float64 [B, D], of ``pixels`` [B, P]."""
        with one_thread():
            posterior = self._model.encode(self.inputs(pixels))
        mu, logvar = posterior.mu.flatten(1), posterior.logvar.flatten(1)
        return _finite(mu, "posterior means"), _finite(logvar, "posterior variances")

    def posterior(self, pixels: Pixels, step: float) -> GridPosterior:
        """q(z|x) of ``pixels`` [B, P] on a grid ``step`` wide."""
        mu, logvar = self.posterior_moments(pixels)
        mean = (mu / step).clamp(-LATENT_LIMIT / step, LATENT_LIMIT / step)
        # A deviation outside 1/8 of a step .. twice the prior's limit codes badly, but codes.
        log2_stddev = logvar / (2 * math.log(2)) - math.log2(step)
        units = torch.round(log2_stddev.clamp(-3, math.log2(2 * LATENT_LIMIT / step)) * _SCALE_UNITS)
        stddev = np.exp2(units.flatten().numpy() / _SCALE_UNITS).astype(np.float32).astype(np.float64)
        return GridPosterior(mean=(torch.round(mean * _MEAN_UNITS) / _MEAN_UNITS).flatten().numpy(), stddev=stddev)

    def pixel_code(self, grid_points: Integers, step: float) -> PixelCode:
        """p(x|z) of latents ``grid_points`` [B * D], in grid steps."""
        z = torch.from_numpy(grid_points.astype(np.float64)).view(-1, *self._latent_shape) * step
        with one_thread():
            return PixelCode(self._model, z, self.levels, self.num_pixels)


class PixelCode:
    """p(x|z) of B examples as integer cumulative counts out of ``2**PROBABILITY_BITS``, for each of B * P pixels."""

    def __init__(self, model: VAE, z: Tensor, levels: int, num_pixels: int) -> None:
        likelihood = model.decode(z)
        if not isinstance(likelihood, PixelLikelihood):
            raise ValueError(f"{type(likelihood).__name__} gives pixels no probabilities; train another likelihood")
        self._likelihood, self.levels, self._shape = likelihood, levels, (len(z), num_pixels)

    def counts_below(self, level: Tensor) -> Tensor:
        """Integers [B, P] in proportion to P(pixel < level), strictly increasing from 0 to the total.

        Args:
            level: int64 [B, P], each in 0 .. levels.
        """
        with one_thread():
            event = self._likelihood.mean.shape
            below = self._likelihood.probability_below(level.view(event), self.levels).view(self._shape)
        # One unit for each level in any case: no pixel is impossible.
        scaled = _finite(below, "pixel probabilities") * (2**PROBABILITY_BITS - self.levels)
        return torch.floor(scaled).long() + level


@contextmanager
def one_thread() -> Iterator[None]:
    """Run PyTorch on one thread and without gradients: sums then have one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_num_threads(threads)


def _finite(values: Tensor, what: str) -> Tensor:
    if not bool(torch.isfinite(values).all()):
        raise ValueError(f"compression: the model's {what} must be finite, got NaN or infinity; train it again")
    return values
