"""Settings of recordings and their spectrograms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from fastvae.settings import Settings, setting

Silence = Literal["auto", "keep", "skip"]


@dataclass(frozen=True, kw_only=True)
class SpectrogramConfig(Settings):
    """Settings of the log-mel spectrogram. The defaults are those of spoken digits: 32 frames of 32 mel bands."""

    sample_rate: int = 8000
    """Sample rate in Hz; recordings with another rate are resampled."""
    num_samples: int = 8192
    """Number of samples per clip: longer clips are cut, shorter ones are padded with silence. A multiple of hop."""
    window: int = 512
    """Number of samples of the (periodic) Hann window of a frame."""
    hop: int = 256
    """Number of samples from one frame to the next."""
    num_mels: int = 32
    """Number of mel bands from 0 Hz to half the sample rate."""
    floor: float = 1e-6
    """Constant that is added to the power of a band before the logarithm."""

    def __post_init__(self) -> None:
        if min(self.sample_rate, self.num_samples, self.hop, self.num_mels) < 1 or self.floor <= 0:
            raise ValueError("SpectrogramConfig: every number must be positive")
        if self.window % 2 or self.hop > self.window or self.num_samples % self.hop:
            raise ValueError(
                "SpectrogramConfig: window must be even, hop at most window, and num_samples a multiple of hop,"
                f" got {self.window}, {self.hop} and {self.num_samples}"
            )

    @property
    def num_frames(self) -> int:
        """Number of frames per clip."""
        return self.num_samples // self.hop


@dataclass(frozen=True, kw_only=True)
class AudioConfig(Settings):
    """How recordings are read and augmented."""

    spectrogram: SpectrogramConfig = setting(SpectrogramConfig, advanced=True)
    """Settings of the spectrogram: sample rate, length and mel bands."""
    max_delay: int = 0
    """Augmentation: delay each training clip by a random number of samples, at most this many; 0 for none."""
    silence: Silence = "auto"
    """Silence before the sound: keep it, skip it, or (auto) skip it only if the clip would otherwise contain nothing
    but silence."""
    gain_db: float = 0.0
    """Augmentation: change the level of each training clip by a normal random number of decibels with this standard
    deviation; 0 for none."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_delay < self.spectrogram.num_samples:
            raise ValueError(
                f"AudioConfig: max_delay must be in 0 .. {self.spectrogram.num_samples - 1}, got {self.max_delay}"
            )
        if not (math.isfinite(self.gain_db) and self.gain_db >= 0):
            raise ValueError(f"AudioConfig: gain_db must be a number >= 0, got {self.gain_db}")
