"""Sound files: the beginning of a recording as samples at one rate, and back."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

EXTENSIONS = (".wav", ".flac", ".ogg")
_MAX_RATE = 384_000
_MAX_CHANNELS = 64


def read_waveform(file: Path | io.BytesIO, sample_rate: int, num_samples: int, *, name: str = "") -> Tensor:
    """The beginning of a recording, float32 [num_samples]: its channels' mean at ``sample_rate``, silence at its end.

    No more of the file than that is read, whatever its header declares.

    Args:
        file: a path, or a file's bytes.
        sample_rate: samples per second of the result.
        num_samples: its length.
        name: how error messages call it; by default the path.

    Raises:
        ValueError: not a sound file, damaged, empty, or with numbers that are not finite.
        ModuleNotFoundError: the package soundfile is missing.
    """
    soundfile, name = _soundfile(), name or str(file)
    try:
        with soundfile.SoundFile(file) as sound:
            rate = int(sound.samplerate)
            if not 1 <= rate <= _MAX_RATE or not 1 <= sound.channels <= _MAX_CHANNELS:
                raise ValueError(f"{name}: {sound.channels} channels of {rate} Hz are no recording that is read here")
            wanted = math.ceil(num_samples * rate / sample_rate)
            samples = torch.from_numpy(sound.read(wanted, dtype="float32", always_2d=True)).mean(1)
    except soundfile.SoundFileError as error:
        raise ValueError(f"{name}: not a sound file that is read here ({' '.join(str(error).split())})") from None
    if len(samples) == 0:
        raise ValueError(f"{name}: holds no samples; remove it")
    if not bool(torch.isfinite(samples).all()):
        raise ValueError(f"{name}: holds a NaN or an infinity; write it anew")
    samples = resample(samples, rate, sample_rate)[:num_samples]
    return functional.pad(samples, (0, num_samples - len(samples)))


def write_waveform(path: Path, waveform: Tensor, sample_rate: int) -> None:
    """Write a waveform [N] within -1 .. 1 as a 16-bit WAV file."""
    _soundfile().write(path, waveform.cpu().numpy(), sample_rate, subtype="PCM_16")


def resample(samples: Tensor, rate: int, wanted: int) -> Tensor:
    """Samples [N] at another rate, [ceil(N * wanted / rate)], by cutting or extending their spectrum."""
    if rate == wanted:
        return samples
    # Both lengths must be of the same time exactly: silence fills up to the next one that is.
    unit = math.gcd(rate, wanted)
    periods = math.ceil(len(samples) * unit / rate)
    before, after = periods * rate // unit, periods * wanted // unit
    spectrum = torch.fft.rfft(samples, n=before)[: after // 2 + 1]
    resampled = torch.fft.irfft(spectrum, n=after) * (after / before)
    return resampled[: math.ceil(len(samples) * wanted / rate)]


def _soundfile() -> Any:
    try:
        import soundfile
    except ModuleNotFoundError:
        raise ModuleNotFoundError("recordings need the package soundfile: pip install 'fastvae[speech]'") from None
    except OSError as error:
        raise OSError(f"soundfile finds no libsndfile ({' '.join(str(error).split())}); install it") from None
    return soundfile
