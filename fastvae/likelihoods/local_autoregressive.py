"""Pixels of an image that depend on z and on a few neighbours before them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, silu, softplus

from fastvae import ops
from fastvae.likelihoods.base import Likelihood, LikelihoodSettings, PixelStep, at_least_float32, event_stream
from fastvae.likelihoods.level_mixture import LevelMixture, quantile
from fastvae.likelihoods.support import Support
from fastvae.likelihoods.wavefront import Window
from fastvae.model_inputs import ModelInputs

_LOG_SCALE_FLOOR, _LOG_SCALE_START = -7.0, -3.0
_SPREAD = 0.2  # the logistics' initial locations are within this of the linear prediction
_GAIN = 4.0  # of differences between neighbours, so that the inputs of the network are of order 1
_HISTOGRAM_START = -1.0  # initial logit of a histogram; a logistic's is 0
_FEATURES = 8  # numbers that the decoder returns for each pixel


class LocalAutoregressive(Likelihood):
    """8-bit pixels given z and a window of neighbours that come before them, and their own earlier channels.

    A local autoregressive model as in NeLLoC (Zhang et al. 2021, arXiv 2104.12416), with features of z as in PixelVAE
    (Gulrajani et al. 2016, arXiv 1611.05013). For each pixel a small network reads the decoder's features, the mean of
    the pixels to the left and above, and how the neighbours of `Window` and the pixel's own earlier channels differ
    from it; it returns a `LevelMixture` for each channel. In training, all pixels of an image are scored in one pass;
    coding and sampling proceed along diagonals.

    Args:
        event_shape: (C, H, W).
        num_levels: number of values of a pixel, at least 2.
        width: units of the hidden layers.
        num_logistics: discretised logistics in each mixture, at least 1.
        num_histograms: learned histograms for each channel, at least 1.
        window: the neighbours; None is `Window()`.

    Raises:
        ValueError: examples are not images, or a number is too small.
    """

    is_discrete = True

    def __init__(
        self,
        event_shape: tuple[int, ...],
        num_levels: int = 256,
        *,
        width: int = 48,
        num_logistics: int = 5,
        num_histograms: int = 16,
        window: Window | None = None,
    ) -> None:
        super().__init__()
        if len(event_shape) != 3:
            raise ValueError(f"LocalAutoregressive: examples must be images [C, H, W], got {list(event_shape)}")
        if num_levels < 2 or min(width, num_logistics, num_histograms) < 1:
            raise ValueError(
                "LocalAutoregressive: num_levels must be at least 2, and width, num_logistics and num_histograms at"
                f" least 1, got {num_levels}, {width}, {num_logistics} and {num_histograms}"
            )
        self.event_shape, self.num_levels, self.num_logistics = event_shape, num_levels, num_logistics
        self.support = Support(low=0, high=1, levels=num_levels)
        window = window or Window()
        channels, height, columns = event_shape
        self.neighbours: Tensor
        self.register_buffer("neighbours", window.neighbours(height, columns), persistent=False)
        self.diagonals = window.diagonals(height, columns)
        self.left, self.above = (window.offsets.index(each) for each in ((0, -1), (-1, 0)))
        read = channels * (1 + len(self.neighbours))
        self.context = nn.Linear(read, width)
        self.features = nn.Linear(_FEATURES, width, bias=False)
        self.hidden = nn.Linear(width, width)
        mixture = (num_logistics, num_histograms, num_levels)
        self.heads = nn.ModuleList(ChannelHead(channel, channels, read, width, *mixture) for channel in range(channels))

    @classmethod
    def build(cls, config: LikelihoodSettings, inputs: ModelInputs) -> LocalAutoregressive:
        """Build it for images with the data's levels.

        Raises:
            ValueError: the data are not images of discrete pixels, or were dequantised or binarised.
        """
        if inputs.num_levels is None:
            raise ValueError(
                "model.likelihood=local-autoregressive: requires discrete pixels;"
                " use 8-bit images with --data.binarize none --data.dequantize False, or another likelihood"
            )
        return cls(inputs.event_shape, inputs.num_levels)

    def output_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the decoder's output for one example: features of each pixel."""
        return (_FEATURES, *event_shape[1:])

    def forward(self, output: Tensor) -> BoundLocalAutoregressive:
        """The distribution of images with the decoder's features ``output``, [B, F, H, W] or [K, B, F, H, W].

        Raises:
            ValueError: the output has another shape.
        """
        expected = self.output_shape(self.event_shape)
        if output.dim() not in (4, 5) or tuple(output.shape[-3:]) != expected:
            raise ValueError(
                f"LocalAutoregressive: the decoder's output must be features [.., {', '.join(map(str, expected))}] for"
                f" images of {list(self.event_shape)}, got {list(output.shape)}; set the decoder's output size"
            )
        return BoundLocalAutoregressive(output.flatten(-2), self)

    def read_context(self, x: Tensor, pixels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What is known of some pixels before they are coded, on the scale -1 .. 1.

        Args:
            x: [B, C, H W], levels / (num_levels - 1).
            pixels: their indices [P]; None is all of them.

        Returns:
            The mean of the pixels to the left and above, [B * P, C], and the context [B * P, C * (1 + neighbours)]: for
            each channel that mean, and the neighbours' differences from it.
        """
        indices = self.neighbours if pixels is None else self.neighbours[:, pixels]
        padded = torch.cat((2 * x - 1, x.new_zeros(*x.shape[:2], 1)), -1)
        found = padded.index_select(2, indices.flatten()).unflatten(2, indices.shape)  # [B, C, neighbours, P]
        base = (found[:, :, self.left] + found[:, :, self.above]).unsqueeze(2) / 2
        context = torch.cat((base, _GAIN * (found - base)), 2)
        return rows_of(base.squeeze(2)), rows_of(context.flatten(1, 2))

    def change(self, x: Tensor, base: Tensor) -> Tensor:
        """How pixels [B, C, P] differ from their neighbours' mean [B * P, C], as the network reads it: [B * P, C]."""
        return _GAIN * (rows_of(2 * x - 1) - base)

    def read_hidden(self, context: Tensor, features: Tensor) -> Tensor:
        """Hidden units [N, width] of N pixels from their neighbours and the decoder's features [N, F]."""
        hidden: Tensor = self.context(context) + self.features(features.to(self.features.weight.dtype))
        return hidden + self.hidden(silu(hidden))


class ChannelHead(nn.Module):
    """The distribution of one channel of N pixels.

    Args:
        channel: index of the channel.
        channels: their number.
        read: numbers of the context.
        width: hidden units.
        num_logistics, num_histograms, num_levels: sizes of the `LevelMixture`.
    """

    def __init__(
        self,
        channel: int,
        channels: int,
        read: int,
        width: int,
        num_logistics: int,
        num_histograms: int,
        num_levels: int,
    ) -> None:
        super().__init__()
        self.num_logistics = num_logistics
        self.prediction = nn.Linear(read + channel, 1, bias=False)  # a linear prediction of the pixel
        self.earlier = nn.Linear(channel, width, bias=False) if channel else None
        self.output = nn.Linear(width, 3 * num_logistics + num_histograms)
        self.histograms = nn.Parameter(0.5 * torch.randn(num_histograms, num_levels))
        self._start(channel, read // channels)

    @torch.no_grad()
    def _start(self, channel: int, read: int) -> None:
        """Initialise the mixture to logistics around the neighbours' mean plus the change in the previous channel."""
        self.prediction.weight.zero_()
        self.prediction.weight[0, channel * read] = 1
        if channel:
            self.prediction.weight[0, -1] = 1 / _GAIN
        self.output.weight.mul_(0.1)
        num = self.num_logistics
        weight, location, raw, histogram = self.output.bias.split((num, num, num, len(self.histograms)))
        weight.zero_()
        location.copy_(torch.linspace(-_SPREAD, _SPREAD, num) if num > 1 else torch.zeros(1))
        raw.fill_(_LOG_SCALE_START)
        histogram.fill_(_HISTOGRAM_START)

    def forward(self, hidden: Tensor, context: Tensor, earlier: Tensor) -> LevelMixture:
        """The mixture of each pixel.

        Args:
            hidden: [N, width] hidden units.
            context: [N, R] its context.
            earlier: [N, c] earlier channels, as differences from the neighbours' mean.
        """
        if self.earlier is not None:
            hidden = hidden + self.earlier(earlier)
        output = at_least_float32(self.output(silu(hidden))).t().contiguous()
        num = self.num_logistics
        weight, location, raw, histogram = output.split((num, num, num, len(self.histograms)))
        predicted = at_least_float32(self.prediction(torch.cat((context, earlier), 1)))
        return LevelMixture(
            log_weight=log_softmax(torch.cat((weight, histogram)), 0),
            location=location + predicted.t(),
            log_scale=_LOG_SCALE_FLOOR + softplus(raw - _LOG_SCALE_FLOOR),
            log_histogram=log_softmax(at_least_float32(self.histograms), 1),
        )


def rows_of(values: Tensor) -> Tensor:
    """Numbers [B, C, P] of P pixels as one row for each pixel: [B * P, C]."""
    return values.transpose(1, 2).flatten(0, 1)


@dataclass(frozen=True)
class BoundLocalAutoregressive:
    """Images under a `LocalAutoregressive` likelihood, given the features of each."""

    features: Tensor  # [B, F, H W] or [K, B, F, H W]
    likelihood: LocalAutoregressive

    @property
    def mean(self) -> Tensor:
        """Images drawn in order, each pixel the median of its distribution; the mean has no closed form."""
        return self._draw(lambda columns: torch.full((), 0.5, device=self.features.device))

    def log_prob(self, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log probability of the pixels' levels, in nats per example: [B], or [K, B] where the output has K samples.

        Args:
            target: [B, C, H, W] pixels ``level / (num_levels - 1)``; rounding to the nearest level undoes float32's.
            mask: [B, C, H, W] 1 for pixels that count, 0 for those that do not; they are neighbours with value 0.
        """
        samples, like = self.features.shape[:-2], self.likelihood
        levels = like.num_levels - 1
        x = at_least_float32(target).flatten(2)
        mask = None if mask is None else mask.expand_as(target).flatten(2)
        if mask is not None:
            x = x.masked_fill(mask == 0, 0.0)  # a missing pixel may be NaN
        level = (x * levels).round().clamp(0, levels)
        x, repeats = level / levels, samples[0] if len(samples) > 1 else 1
        base, context = like.read_context(x)
        change = like.change(x, base).repeat(repeats, 1)
        context = context.repeat(repeats, 1)
        hidden = like.read_hidden(context, rows_of(self.features.flatten(0, -3)))
        total = torch.zeros(samples, dtype=x.dtype, device=x.device)
        for channel, head in enumerate(like.heads):
            mixture = head(hidden, context, change[:, :channel])
            found = mixture.log_prob(level[:, channel].flatten().repeat(repeats)).view(*samples, x.shape[2])
            total = total + (found if mask is None else found * mask[:, channel]).sum(-1)
        return total

    def sample(self, noise_key: Tensor, *, stream: int | None = None) -> Tensor:
        """Draw each pixel in order, a level / (num_levels - 1); row i has the noise of row first_row + i."""
        rows, columns = (
            self.features.shape[0],
            math.prod(self.features.shape[1:-2]) * math.prod(self.likelihood.event_shape),
        )
        uniform = ops.philox_uniform(noise_key, rows, columns, stream=event_stream(stream))
        uniform = uniform.view(-1, math.prod(self.likelihood.event_shape))
        return self._draw(lambda columns: uniform[:, columns])

    def in_order(self, x: Tensor) -> Iterator[PixelStep]:
        """The distributions of all pixels in the order of coding.

        Args:
            x: [B, C, H, W] pixels ``level / (num_levels - 1)``, which the caller may fill in: when a step is requested,
                those of all previous steps must be there.
        """
        like, flat = self.likelihood, x.view(len(x), self.likelihood.event_shape[0], -1)
        for each in like.diagonals:
            pixels = each.to(x.device)
            base, context = like.read_context(flat, pixels)
            hidden = like.read_hidden(context, rows_of(self.features.flatten(0, -3)[:, :, pixels]))
            for channel, head in enumerate(like.heads):
                earlier = like.change(flat[:, :channel, pixels], base[:, :channel])
                yield PixelStep(channel * flat.shape[2] + pixels, head(hidden, context, earlier))

    @torch.no_grad()
    def _draw(self, uniform: Callable[[Tensor], Tensor]) -> Tensor:
        """Draw images by inversion with a uniform number for each pixel, of the indices [P] as [B, P]."""
        like, samples = self.likelihood, self.features.shape[:-2]
        dtype = at_least_float32(self.features).dtype
        x = torch.zeros(math.prod(samples), *like.event_shape, dtype=dtype, device=self.features.device)
        for step in self.in_order(x):
            chosen = uniform(step.columns).expand(len(x), len(step.columns)).reshape(-1)
            level = quantile(step.distribution, chosen.to(dtype), like.num_levels).view(len(x), -1)
            x.view(len(x), -1)[:, step.columns] = level.to(dtype) / (like.num_levels - 1)
        return x.view(*samples, *like.event_shape)
