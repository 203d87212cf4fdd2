"""How recordings are read, as a configuration."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from fastvae.settings import Settings

Silence = Literal["auto", "keep", "skip"]


@dataclass(frozen=True, kw_only=True)
class SpectrogramConfig(Settings):
    """How sound becomes numbers; the defaults are those of spoken digits, 32 frames of 32 mels."""

    sample_rate: int = 8000
    """Samples per second; other recordings are resampled to it."""
    num_samples: int = 8192
    """Samples of a clip: longer ones are cut, shorter ones end in silence. A multiple of hop."""
    window: int = 512
    """Samples of a frame's (periodic) Hann window."""
    hop: int = 256
    """Samples from one frame to the next."""
    num_mels: int = 32
    """Mel bands from 0 Hz to half the sample rate."""
    floor: float = 1e-6
    """What is added to a band's power before its logarithm."""

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
        """Frames of a clip."""
        return self.num_samples // self.hop


@dataclass(frozen=True, kw_only=True)
class AudioConfig(Settings):
    """How recordings are read, and how training varies them."""

    spectrogram: SpectrogramConfig = field(default_factory=SpectrogramConfig)
    """Rate, length and bands."""
    max_delay: int = 0
    """Training starts each clip late, by up to so many samples drawn anew each time; 0 for never."""
    silence: Silence = "auto"
    """Silence before the sound: keep it, skip it, or (auto) skip it where a clip would hold nothing else."""
    gain_db: float = 0.0
    """Training makes each clip louder or softer, by a normal draw of this deviation in decibels; 0 for never."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_delay < self.spectrogram.num_samples:
            raise ValueError(
                f"AudioConfig: max_delay must be in 0 .. {self.spectrogram.num_samples - 1}, got {self.max_delay}"
            )
        if not (math.isfinite(self.gain_db) and self.gain_db >= 0):
            raise ValueError(f"AudioConfig: gain_db must be a number >= 0, got {self.gain_db}")
