"""Waveforms of log-mel spectrograms."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from fastvae.data.audio.config import SpectrogramConfig
from fastvae.data.audio.spectrogram import log_mel, mel_filters
from fastvae.ops import GenerationSite, Use, noise_key, philox_uniform, stream

_MEL_ITERATIONS = 200
_PHASE_ITERATIONS = 30
_CORRECTIONS = 2  # rounds that bring the mel bands of the waveform closer to those that are wanted
_LARGEST_CORRECTION = 2.0  # of the log power
_SMALLEST = 1e-4  # magnitude below which frames are interpolated as if they had it
_PEAK = 0.95  # louder waveforms are scaled to it, so that nothing clips


class _Fine:
    """The short-time Fourier transform of the inversion.

    Where the frames of the spectrogram overlap by at most a half, which is too little to determine phases, its hop is a
    quarter of the spectrogram's (a third, or a half, if 4 does not divide it), and its window is half as long if that
    leaves four times as many frequencies as mel bands. Otherwise it is the spectrogram's own.
    """

    def __init__(self, config: SpectrogramConfig, device: torch.device) -> None:
        is_sparse = config.window <= 2.1 * config.hop
        self.factor = next(factor for factor in (4, 3, 2, 1) if config.hop % factor == 0) if is_sparse else 1
        self.hop = config.hop // self.factor
        half = config.window // 4 * 2
        self.window = half if half >= 4 * self.hop and half // 2 >= 4 * config.num_mels else config.window
        self.num_frames = config.num_frames * self.factor + 1
        self.num_samples = config.num_samples
        self._window = torch.hann_window(self.window, device=device)

    def transform(self, waveforms: Tensor) -> Tensor:
        """The spectrum [B, window / 2 + 1, num_frames] of waveforms [B, num_samples]."""
        sizes = (self.window, self.hop)
        return torch.stft(waveforms, *sizes, window=self._window, pad_mode="constant", return_complex=True)

    def invert(self, spectrum: Tensor) -> Tensor:
        """The waveforms whose spectrum is closest to the given one."""
        return torch.istft(spectrum, self.window, self.hop, window=self._window, length=self.num_samples)

    def resample(self, values: Tensor) -> Tensor:
        """Interpolate values [B, config.window / 2 + 1, config.num_frames + 1] to the finer frames and frequencies."""
        sizes = (self.window // 2 + 1, self.num_frames)
        return interpolate(values.unsqueeze(1), sizes, mode="bilinear", align_corners=True).squeeze(1)


def waveforms_of(log_mels: Tensor, config: SpectrogramConfig, *, seed: int = 0) -> Tensor:
    """Compute a waveform for each spectrogram, float32 [B, num_samples] within -0.95 .. 0.95.

    Powers of the frequencies are found by non-negative least squares, and interpolated in log magnitude to frames that
    overlap more. Phases are found by the iteration of Griffin and Lim 1984 (doi 10.1109/TASSP.1984.1164317) from phases
    that ``seed`` determines. The magnitudes are then corrected by the differences of the waveform's mel bands from the
    given ones, and the phases found again.

    Args:
        log_mels: [B, mels, frames], as `log_mel` gives them.
        config: sizes.
        seed: seed of the initial phases.
    """
    log_mels, fine = log_mels.float(), _Fine(config, log_mels.device)
    # The frame centred on the clip's end is not part of the spectrogram: silence.
    magnitude = fine.resample((pad(_magnitudes(log_mels, config), (0, 1)) + _SMALLEST).log()).exp() - _SMALLEST
    magnitude = magnitude.clamp(min=0) * (fine.window / config.window)
    key, columns = noise_key(seed, device=magnitude.device), math.prod(magnitude.shape[1:])
    first = philox_uniform(key, len(magnitude), columns, stream=stream(Use.GENERATION, GenerationSite.PHASE))
    phase = torch.polar(torch.ones_like(magnitude), 2 * math.pi * first.view(magnitude.shape))
    waveforms = _griffin_lim(magnitude, phase, fine, _PHASE_ITERATIONS)
    for _ in range(_CORRECTIONS):
        magnitude = magnitude * fine.resample(_log_gain(waveforms, log_mels, config)).exp()
        waveforms = _griffin_lim(magnitude, _unit(fine.transform(waveforms)), fine, _PHASE_ITERATIONS // 2)
    peak = waveforms.abs().amax(1, keepdim=True)
    return waveforms * (_PEAK / peak.clamp(min=_PEAK))


def _griffin_lim(magnitude: Tensor, phase: Tensor, fine: _Fine, num: int) -> Tensor:
    """The waveforms after ``num`` iterations from a phase."""
    for _ in range(num):
        phase = _unit(fine.transform(fine.invert(magnitude * phase)))
    return fine.invert(magnitude * phase)


def _log_gain(waveforms: Tensor, log_mels: Tensor, config: SpectrogramConfig) -> Tensor:
    """Logarithm of the factor of each magnitude [B, window / 2 + 1, frames + 1] that corrects the mel bands."""
    filters = mel_filters(config).to(log_mels.device)
    shares = filters / filters.sum(0).clamp(min=1e-3)
    missing = (log_mels - log_mel(waveforms, config)).clamp(-_LARGEST_CORRECTION, _LARGEST_CORRECTION)
    return pad(shares.T @ missing / 2, (0, 1))  # half: a magnitude is the root of a power


def _magnitudes(log_mels: Tensor, config: SpectrogramConfig) -> Tensor:
    """Magnitudes [B, window / 2 + 1, frames] whose mel powers are those given (Lee and Seung 2001's updates)."""
    filters = mel_filters(config).to(log_mels.device)
    mels = (log_mels.exp() - config.floor).clamp(min=0)
    wanted = filters.T @ mels
    power = wanted.clone()
    gram = filters.T @ filters
    for _ in range(_MEL_ITERATIONS):
        power *= wanted / (gram @ power).clamp(min=1e-12)
    return power.sqrt()


def _unit(values: Tensor) -> Tensor:
    return values / values.abs().clamp(min=1e-12)
