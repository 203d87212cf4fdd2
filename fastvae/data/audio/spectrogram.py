"""Log-mel spectrograms, and their inversion to a waveform."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from fastvae.data.audio.config import SpectrogramConfig
from fastvae.ops import GenerationSite, Use, noise_key, philox_uniform, stream

_MEL_ITERATIONS = 200
_PHASE_ITERATIONS = 60
_MOMENTUM = 0.99
_PEAK = 0.95  # louder waveforms are scaled to it, so that nothing clips


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


def waveforms_of(log_mels: Tensor, config: SpectrogramConfig, *, seed: int = 0) -> Tensor:
    """Compute a waveform for each spectrogram, float32 [B, num_samples] within -0.95 .. 0.95.

    Powers of the frequencies by non-negative least squares, phases by the fast Griffin-Lim iteration (Perraudin et al.
    2013, doi 10.1109/WASPAA.2013.6701851) from phases that ``seed`` decides.

    Args:
        log_mels: [B, mels, frames], as `log_mel` gives them.
        config: sizes.
        seed: seed of the initial phases.
    """
    # The frame centred on the clip's end is not part of the spectrogram: silence.
    magnitude = pad(_magnitudes(log_mels.float(), config), (0, 1))
    key, columns = noise_key(seed, device=magnitude.device), math.prod(magnitude.shape[1:])
    first = philox_uniform(key, len(magnitude), columns, stream=stream(Use.GENERATION, GenerationSite.PHASE))
    phase = torch.polar(torch.ones_like(magnitude), 2 * math.pi * first.view(magnitude.shape))
    previous = torch.zeros_like(phase)
    for _ in range(_PHASE_ITERATIONS):
        rebuilt = _stft(_istft(magnitude * phase, config), config)
        phase = _unit(rebuilt + _MOMENTUM * (rebuilt - previous))
        previous = rebuilt
    waveforms = _istft(magnitude * phase, config)
    peak = waveforms.abs().amax(1, keepdim=True)
    return waveforms * (_PEAK / peak.clamp(min=_PEAK))


def _magnitudes(log_mels: Tensor, config: SpectrogramConfig) -> Tensor:
    """Magnitudes [B, window / 2 + 1, frames] whose mel powers are those given (Lee and Seung 2001's updates)."""
    filters, _ = _constants(config, log_mels.device)
    mels = (log_mels.exp() - config.floor).clamp(min=0)
    wanted = filters.T @ mels
    power = wanted.clone()
    gram = filters.T @ filters
    for _ in range(_MEL_ITERATIONS):
        power *= wanted / (gram @ power).clamp(min=1e-12)
    return power.sqrt()


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


def _istft(spectrum: Tensor, config: SpectrogramConfig) -> Tensor:
    return torch.istft(
        spectrum,
        config.window,
        config.hop,
        window=_constants(config, spectrum.device)[1],
        center=True,
        length=config.num_samples,
    )


def _unit(values: Tensor) -> Tensor:
    return values / values.abs().clamp(min=1e-12)
