"""From waveforms to standardised log-mel spectrograms, by batches; augmentation with counter-based noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fastvae.data.audio.config import AudioConfig
from fastvae.data.audio.spectrogram import log_mel
from fastvae.ops import AugmentationSite, Use, philox_normal, philox_uniform, stream
from fastvae.records import Batch

_CHUNK = 256  # clips whose spectrograms are computed at a time: limits temporary memory


@dataclass(frozen=True, kw_only=True)
class LogMelPreprocess:
    """Waveforms [B, num_samples] to log-mel spectrograms [B, 1, mels, frames], standardised by a mean and a standard
    deviation.
    """

    audio: AudioConfig
    mean_level: float = 0.0
    """Mean of all numbers of the training set's log-mel spectrograms."""
    deviation: float = 1.0
    """Their standard deviation."""

    def __call__(self, raw: Tensor, key: Tensor, *, indices: Tensor, evaluation: bool) -> Batch:
        """``Batch`` with ``x`` (= ``target``) float32 [B, 1, mels, frames]; evaluation does not augment."""
        x = self.standardize(self.log_mel(raw if evaluation else self.vary(raw, key)))
        return Batch(x=x, target=x, rows=indices.to(x.device))

    def log_jacobian_nats(self, event_numel: int) -> float | None:
        """None: sound is continuous."""
        return None

    def mean(self, raw: Tensor) -> Tensor:
        """Mean of ``x`` over ``raw`` [B, num_samples], float64 [1, mels, frames]."""
        return self.standardize(self.log_mel(raw).double()).mean(0)

    def vary(self, waveforms: Tensor, key: Tensor) -> Tensor:
        """Delay and scale the waveforms [B, num_samples] by noise of the key's rows."""
        num, length = waveforms.shape
        if self.audio.max_delay:
            u = philox_uniform(key, num, 1, stream=stream(Use.AUGMENTATION, AugmentationSite.DELAY))
            delay = (u * (self.audio.max_delay + 1)).long()
            place = torch.arange(length, device=waveforms.device) - delay
            waveforms = waveforms.gather(1, place.clamp(min=0)) * (place >= 0)
        if self.audio.gain_db:
            gain = philox_normal(key, num, 1, stream=stream(Use.AUGMENTATION, AugmentationSite.GAIN))
            waveforms = waveforms * 10 ** (gain * self.audio.gain_db / 20)
        return waveforms

    def log_mel(self, waveforms: Tensor) -> Tensor:
        """Compute log-mel spectrograms [B, 1, mels, frames] of waveforms."""
        parts = [log_mel(part, self.audio.spectrogram) for part in waveforms.split(_CHUNK)]
        return torch.cat(parts).unsqueeze(1)

    def standardize(self, log_mels: Tensor) -> Tensor:
        """Standardise log-mel spectrograms."""
        return (log_mels - self.mean_level) / self.deviation

    def restore(self, x: Tensor) -> Tensor:
        """Convert model outputs to log-mel spectrograms [B, mels, frames], clipped to the loudest possible sound."""
        spectrogram = self.audio.spectrogram
        loudest = 2 * math.log(spectrogram.window)
        log_mels = (x * self.deviation + self.mean_level).clamp(math.log(spectrogram.floor), loudest)
        return log_mels.reshape(-1, spectrogram.num_mels, spectrogram.num_frames)
