"""A VAE whose results are rounded to integers, so that sender and receiver compute the same code.

Entropy coding fails if the receiver's probabilities differ from the sender's in the last bit. The networks therefore
run in float64 on one thread, and all inputs of the coder are rounded to integers far more coarsely than float64's
round-off. Two machines that sum in a different order still agree on all but about one value in 10**9, and the decoder
detects a disagreement.
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
from fastvae.likelihoods import LevelProbabilities, PixelLikelihood, PixelsInOrder
from fastvae.models import VAE

Floats = NDArray[np.float64]
Integers = NDArray[np.int32]

PROBABILITY_BITS = 22  # cumulative counts of pixels are in units of 2**-22
LATENT_LIMIT = 8.0  # the latents' grid covers -8 .. 8 standard deviations of the prior
_MEAN_UNITS = 16  # posterior means are rounded to 1/16 of a grid step
_SCALE_UNITS = 16  # posterior standard deviations are rounded to powers of 2**(1/16)


@dataclass(frozen=True, kw_only=True)
class GridPosterior:
    """Rounded parameters of q(z|x) in units of a step of the latents' grid."""

    mean: Floats
    """[B * D] means."""
    stddev: Floats
    """[B * D] standard deviations."""


class IntegerVAE:
    """A trained VAE of discrete pixels with rounded results, see the module's docstring.

    Args:
        model: the VAE; it is copied to float64.
        data: the model's training data, which define how pixels are scaled.

    Raises:
        ValueError: the model is not an unconditional VAE of discrete pixels.
    """

    def __init__(self, model: torch.nn.Module, data: Data) -> None:
        preprocess = data.preprocess
        if not isinstance(model, VAE) or model.latent_shape is None or model.latent_dim is None:
            raise ValueError(f"compression needs a VAE with a latent dimension, got {type(model).__name__}")
        if type(model).forward is not VAE.forward or type(model.prior) is not StandardNormal:
            found = f"a {type(model).__name__} with prior {type(model.prior).__name__}"
            raise ValueError(f"compression needs one layer of latents under N(0, I), got {found}")
        if getattr(data, "conditions", None) is not None:
            raise ValueError(
                f"{data.name}: compression does not support conditions; train the model without data.condition"
            )
        if not isinstance(preprocess, Preprocess) or preprocess.levels is None:
            raise ValueError(f"{data.name}: compression requires discrete pixels, these are continuous")
        self._model = copy.deepcopy(model).double().cpu().eval().requires_grad_(False)
        self._preprocess = preprocess
        self.event_shape = tuple(data.event_shape)
        self.num_pixels = math.prod(self.event_shape)
        self.latent_dim, self._latent_shape = model.latent_dim, model.latent_shape
        self.levels = 2 if preprocess.binarize else preprocess.levels

    def check_pixels(self, pixels: Pixels) -> None:
        """Check that all pixels are levels of the model.

        Raises:
            ValueError: a pixel is too large.
        """
        if (highest := int(pixels.max())) >= self.levels:
            hint = "; binarise the file first" if self.levels == 2 else ""
            raise ValueError(f"pixels must be in 0 .. {self.levels - 1} for this model, got {highest}{hint}")

    def inputs(self, pixels: Pixels) -> Tensor:
        """The encoder's input for ``pixels`` [B, P]: float64 [B, *event_shape]."""
        x = torch.from_numpy(pixels.astype(np.float64)).view(-1, *self.event_shape)
        if self._preprocess.dequantize:
            return (x + 0.5) / self.levels
        return x / (self.levels - 1)

    def expected_pixels(self, z: Tensor) -> Pixels:
        """The levels nearest to the mean of p(x|z) for latents [B, D]: uint8 [B, P]."""
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
        """Mean and log variance of q(z|x), each float64 [B, D], for ``pixels`` [B, P]."""
        with one_thread():
            posterior = self._model.encode(self.inputs(pixels))
        mu, logvar = posterior.mu.flatten(1), posterior.logvar.flatten(1)
        return _finite(mu, "posterior means"), _finite(logvar, "posterior variances")

    def posterior(self, pixels: Pixels, step: float) -> GridPosterior:
        """q(z|x) for ``pixels`` [B, P] on a grid with the given step."""
        mu, logvar = self.posterior_moments(pixels)
        mean = (mu / step).clamp(-LATENT_LIMIT / step, LATENT_LIMIT / step)
        # A standard deviation outside of [1/8 of a step, twice the limit] is clamped: inefficient, but decodable.
        log2_stddev = logvar / (2 * math.log(2)) - math.log2(step)
        units = torch.round(log2_stddev.clamp(-3, math.log2(2 * LATENT_LIMIT / step)) * _SCALE_UNITS)
        stddev = np.exp2(units.flatten().numpy() / _SCALE_UNITS).astype(np.float32).astype(np.float64)
        return GridPosterior(mean=(torch.round(mean * _MEAN_UNITS) / _MEAN_UNITS).flatten().numpy(), stddev=stddev)

    def pixel_codes(self, grid_points: Integers, step: float, pixels: Pixels) -> Iterator[PixelCode]:
        """p(x|z) for latents ``grid_points`` [B * D] in units of a grid step, in the order of decoding.

        Args:
            grid_points: the latents.
            step: step of the latents' grid.
            pixels: [B, P]. When a code is requested, the pixels of all previous codes must be there; no others are
                read. So the sender, who has all pixels, and the receiver compute the same numbers.
        """
        with one_thread():
            z = torch.from_numpy(grid_points.astype(np.float64)).view(-1, *self._latent_shape) * step
            likelihood = self._model.decode(z)
        if isinstance(likelihood, PixelsInOrder):
            yield from self._codes_in_order(likelihood, pixels)
        elif isinstance(likelihood, PixelLikelihood):
            yield PixelCode(likelihood, np.arange(self.num_pixels), self.levels, tuple(likelihood.mean.shape))
        else:
            raise ValueError(
                f"compression requires a likelihood of discrete pixels, got {type(likelihood).__name__};"
                " train the model with another likelihood"
            )

    def _codes_in_order(self, likelihood: PixelsInOrder, pixels: Pixels) -> Iterator[PixelCode]:
        x = torch.zeros(len(pixels), self.num_pixels, dtype=torch.float64)
        steps = likelihood.in_order(x.view(-1, *self.event_shape))
        while True:
            with one_thread():  # not around a yield: the caller must have its own number of threads
                if (step := next(steps, None)) is None:
                    return
            columns = step.columns.numpy()
            yield PixelCode(step.distribution, columns, self.levels, (len(pixels) * len(columns),))
            x[:, step.columns] = torch.from_numpy(pixels[:, columns].astype(np.float64)) / (self.levels - 1)


class PixelCode:
    """p(x|z) of some pixels of B examples as integer cumulative counts out of ``2**PROBABILITY_BITS``.

    Args:
        likelihood: the distribution of the pixels.
        columns: their indices [P] in the flattened examples.
        levels: number of values of a pixel.
        shape: shape of the distribution's tensors, of B * P numbers.
    """

    def __init__(
        self,
        likelihood: LevelProbabilities,
        columns: NDArray[np.int64],
        levels: int,
        shape: tuple[int, ...],
    ) -> None:
        self.columns, self.levels = columns, levels
        self._likelihood, self._shape = likelihood, shape

    def counts_below(self, level: Tensor) -> Tensor:
        """Integers [B, P] proportional to P(pixel < level), strictly increasing in the level from 0 to the total.

        Args:
            level: int64 [B, P], each in 0 .. levels.
        """
        with one_thread():
            below = self._likelihood.probability_below(level.reshape(self._shape), self.levels).view(level.shape)
        # Each level gets at least one unit, so that no pixel has probability 0.
        scaled = _finite(below, "pixel probabilities") * (2**PROBABILITY_BITS - self.levels)
        return torch.floor(scaled).long() + level


@contextmanager
def one_thread() -> Iterator[None]:
    """Run PyTorch on one thread, so that sums have a fixed order, and without gradients."""
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
