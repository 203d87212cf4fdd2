"""From waveforms to standardised log-mel spectrograms, a batch at a time; augmentation by the counters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fastvae.data.audio.config import AudioConfig
from fastvae.data.audio.spectrogram import log_mel
from fastvae.ops import AugmentationSite, Use, philox_normal, philox_uniform, stream
from fastvae.records import Batch

_CHUNK = 256  # clips whose spectrograms are computed at a time: bounds the temporaries


@dataclass(frozen=True, kw_only=True)
class LogMelPreprocess:
    """Waveforms [B, num_samples] to log-mel spectrograms [B, 1, mels, frames], less a mean, over a deviation."""

    audio: AudioConfig
    mean_level: float = 0.0
    """Mean of all numbers of the training set's log-mel spectrograms."""
    deviation: float = 1.0
    """Their standard deviation."""

    def __call__(self, raw: Tensor, key: Tensor, *, indices: Tensor, evaluation: bool) -> Batch:
        """``Batch`` with ``x`` (= ``target``) float32 [B, 1, mels, frames]; evaluation varies nothing."""
        x = self.standardize(self.log_mel(raw if evaluation else self.vary(raw, key)))
        return Batch(x=x, target=x, rows=indices.to(x.device))

    def log_jacobian_nats(self, event_numel: int) -> float | None:
        """None: sound is continuous."""
        return None

    def mean(self, raw: Tensor) -> Tensor:
        """Mean of ``x`` over ``raw`` [B, num_samples], float64 [1, mels, frames]."""
        return self.standardize(self.log_mel(raw).double()).mean(0)

    def vary(self, waveforms: Tensor, key: Tensor) -> Tensor:
        """The waveforms [B, num_samples] later and louder, or softer, as the key's rows say."""
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
        """Log-mel spectrograms [B, 1, mels, frames] of waveforms."""
        parts = [log_mel(part, self.audio.spectrogram) for part in waveforms.split(_CHUNK)]
        return torch.cat(parts).unsqueeze(1)

    def standardize(self, log_mels: Tensor) -> Tensor:
        """From log-mel spectrograms to what the model reads."""
        return (log_mels - self.mean_level) / self.deviation

    def restore(self, x: Tensor) -> Tensor:
        """From what a model makes to log-mel spectrograms [B, mels, frames], no louder than sound can be."""
        spectrogram = self.audio.spectrogram
        loudest = 2 * math.log(spectrogram.window)
        log_mels = (x * self.deviation + self.mean_level).clamp(math.log(spectrogram.floor), loudest)
        return log_mels.reshape(-1, spectrogram.num_mels, spectrogram.num_frames)
