"""Preprocessing of pixels: scaling, dequantisation, binarisation; all noise is counter-based."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fastvae.ops import PixelSite, Use, philox_uniform, stream
from fastvae.records import Batch

_LARGEST_BELOW_ONE = 1 - 2**-24  # in float32


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Conversion of raw examples to floats, by batches.

    Discrete pixels ``v`` in ``0 .. levels - 1`` become one of

    - ``v / (levels - 1)`` in [0, 1] (binary pixels, ``levels = 2``, stay 0 and 1);
    - with ``dequantize``: ``(v + u) / levels`` in (0, 1), u uniform (Theis et al. 2016, arXiv:1511.01844, eq. 1);
    - with ``binarize``: 1 with probability ``v / (levels - 1)``, else 0 (Burda et al. 2016, arXiv:1509.00519, sec. 5).

    Continuous data (``levels = None``) are unchanged; with ``binarize`` they are the probabilities.
    """

    levels: int | None = None
    """Number of values that a pixel can take: 256 for ordinary images; None for continuous data."""
    dequantize: bool = False
    """Add uniform noise within each pixel's quantisation step, so that densities have bits per dimension."""
    binarize: bool = False
    """Sample every pixel from its grey value in each training step."""

    def __post_init__(self) -> None:
        if self.levels is not None and self.levels < 2:
            raise ValueError(f"Preprocess: levels must be at least 2, or None for continuous data, got {self.levels}")
        if self.dequantize and self.levels is None:
            raise ValueError("Preprocess: dequantize requires discrete pixels, got continuous data (levels=None)")
        if self.dequantize and self.binarize:
            raise ValueError("Preprocess: dequantize and binarize exclude each other, got both; choose one")

    def __call__(self, raw: Tensor, key: Tensor, *, indices: Tensor, evaluation: bool) -> Batch:
        """The batch that a model reads.

        Args:
            raw: ``[B, *event_shape]`` uint8 or float, as returned by a source; not changed.
            key: noise key, int64 ``[3]`` on the device of ``raw``. In training, row ``i`` of the noise is row
                ``key[2] + i`` of the global batch. In evaluation it is the example's index, independently of
                ``key[2]``.
            indices: int64 ``[B]``, each example's index in its source; on the CPU in evaluation.
            evaluation: whether this is evaluation; also the evaluation bit of the noise stream.

        Returns:
            ``Batch`` with ``x`` (= ``target``) float32 ``[B, *event_shape]`` and ``rows`` = ``indices``.
        """
        x = self._transform(raw, key, indices, evaluation)
        return Batch(x=x, target=x, rows=indices.to(x.device))

    def log_jacobian_nats(self, event_numel: int) -> float | None:
        """What to add to a negative log density of ``x`` for the discrete pixels' negative log-likelihood, in nats.

        ``event_numel * log(levels)`` for dequantised pixels, 0 for binary ones, and None where ``x`` has no
        likelihood over discrete values, so that bits per dimension do not exist.
        """
        if self.dequantize and self.levels is not None:
            return event_numel * math.log(self.levels)
        return 0.0 if self.binarize or self.levels == 2 else None

    @property
    def exact_levels(self) -> int | None:
        """Number of values of ``x`` if it is the pixels themselves; None if noise is added to them."""
        return None if self.dequantize or self.binarize else self.levels

    @property
    def describe(self) -> str:
        """Description of the transformation, for logs."""
        if self.dequantize:
            return f"{self.levels} levels, dequantised to (0, 1)"
        if self.binarize:
            return "binarised in every step"
        if self.levels == 2:
            return "binary"
        return "continuous, unchanged" if self.levels is None else f"{self.levels} levels, scaled to [0, 1]"

    def mean(self, raw: Tensor) -> Tensor:
        """The expectation of ``x`` over the noise, float64 ``[*event_shape]``, averaged over ``raw`` ``[B, ...]``."""
        average = raw.to(torch.float64).mean(dim=0)
        if self.levels is None:
            return average
        return (average + 0.5) / self.levels if self.dequantize else average / (self.levels - 1)

    def apply(self, raw: Tensor, key: Tensor | None, *, evaluation: bool = False) -> Tensor:
        """``x`` of consecutive examples: row ``i`` has the noise of row ``key[2] + i``, in evaluation too.

        Args:
            raw: ``[B, *event_shape]``, as above.
            key: as above; it may be None if no noise is used.
            evaluation: the evaluation bit of the noise stream.
        """
        if not (self.dequantize or self.binarize):
            return self._with_noise(raw, None)
        assert key is not None
        use = stream(Use.PIXELS, PixelSite.PIXELS, evaluation=evaluation)
        u = philox_uniform(key, raw.shape[0], math.prod(raw.shape[1:]), stream=use)
        return self._with_noise(raw, u.view(raw.shape))

    def _transform(self, raw: Tensor, key: Tensor, indices: Tensor, evaluation: bool) -> Tensor:
        draws = self.dequantize or self.binarize
        return self._with_noise(raw, pixel_noise(key, raw, indices if evaluation else None) if draws else None)

    def _with_noise(self, raw: Tensor, u: Tensor | None) -> Tensor:
        if u is None:
            x = raw.to(torch.float32)  # 0 .. 255 times the rounded 1/255 ends at 1.0 exactly
            return x if self.levels in (None, 2) else x.mul_(1.0 / (self.levels - 1))
        if self.binarize:
            return binarize_pixels(raw, u, self.levels)
        assert self.levels is not None
        # float32 rounds 16 + 0.9999999 up to 17: the clamp keeps x below 1
        return u.add_(raw).mul_(1.0 / self.levels).clamp_(max=_LARGEST_BELOW_ONE)


def binarize_pixels(raw: Tensor, u: Tensor, levels: int | None) -> Tensor:
    """float32 1 where ``u < raw / (levels - 1)``, else 0; ``u`` is overwritten.

    The comparison is ``u * (levels - 1) < raw``: one rounding, the same on every device, where a division by a
    constant is not; 0 never and the highest level always gives 1.
    """
    scaled = u if levels in (None, 2) else u.mul_(levels - 1)
    return torch.lt(scaled, raw, out=scaled)


def pixel_noise(key: Tensor, raw: Tensor, indices: Tensor | None) -> Tensor:
    """Uniform noise in (0, 1), float32, of the shape of ``raw`` ``[B, ...]``.

    With ``indices`` (evaluation) example ``i`` has the noise of row ``indices[i]``; else of row ``key[2] + i``.
    """
    rows, columns = raw.shape[0], math.prod(raw.shape[1:])
    if indices is None:
        return philox_uniform(key, rows, columns, stream=stream(Use.PIXELS, PixelSite.PIXELS)).view(raw.shape)
    evaluation = stream(Use.PIXELS, PixelSite.PIXELS, evaluation=True)
    parts = []
    for first, length in _runs(indices):
        run_key = key.clone()
        run_key[2] = first
        parts.append(philox_uniform(run_key, length, columns, stream=evaluation))
    noise = parts[0] if len(parts) == 1 else torch.cat([*parts, raw.new_empty((0, columns), dtype=torch.float32)])
    return noise.view(raw.shape)


def _runs(indices: Tensor) -> list[tuple[int, int]]:
    """The runs of consecutive indices, as (first, length): one for a contiguous range, which is the usual case."""
    if indices.numel() == 0:
        return []
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), (indices.diff() != 1).nonzero().flatten() + 1])
    lengths = torch.diff(starts, append=torch.tensor([indices.numel()]))
    return list(zip(indices[starts].tolist(), lengths.tolist(), strict=True))
