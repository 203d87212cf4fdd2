"""Log-mel spectrograms."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from fastvae.data.audio.config import SpectrogramConfig


def mel_filters(config: SpectrogramConfig) -> Tensor:
    """Triangles of height 1 on the mel scale of HTK, ``2595 log10(1 + f / 700)``: float32 [mels, window / 2 + 1]."""
    nyquist = config.sample_rate / 2
    highest = 2595 * math.log10(1 + nyquist / 700)
    mels = torch.linspace(0, highest, config.num_mels + 2, dtype=torch.float64)
    corners = (700 * (10 ** (mels / 2595) - 1)).unsqueeze(1)
    frequency = torch.linspace(0, nyquist, config.window // 2 + 1, dtype=torch.float64)
    rising = (frequency - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - frequency) / (corners[2:] - corners[1:-1])
    return torch.minimum(rising, falling).clamp(min=0).float()


@functools.cache
def _constants(config: SpectrogramConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """The filters [mels, window / 2 + 1] and the window [window], cached per device, since a copy synchronises with the
    device.
    """
    return mel_filters(config).to(device), torch.hann_window(config.window).to(device)


def log_mel(waveforms: Tensor, config: SpectrogramConfig) -> Tensor:
    """Log power of each mel band in each frame, ``log(mel + floor)``: float32 [B, mels, frames].

    Frame t is centred on sample ``t * hop``; samples outside the clip are silence.

    Args:
        waveforms: float32 [B, num_samples], in -1 .. 1.
        config: sizes.
    """
    if len(waveforms) == 0:  # a micro-batch may be empty, which a Fourier transform does not support
        return waveforms.new_empty(0, config.num_mels, config.num_frames)
    spectrum = _stft(waveforms, config)[..., : config.num_frames]
    filters, _ = _constants(config, waveforms.device)
    return torch.log(filters @ spectrum.abs().square() + config.floor)


def _stft(waveforms: Tensor, config: SpectrogramConfig) -> Tensor:
    return torch.stft(
        waveforms,
        config.window,
        config.hop,
        window=_constants(config, waveforms.device)[1],
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
