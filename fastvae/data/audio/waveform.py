"""Sound files: reading the beginning of a recording at one sample rate, and writing WAV files."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fastvae.data.audio.config import Silence

# Formats that libsndfile detects by content; a build without one reports it for the file.
EXTENSIONS = tuple(
    ".wav .wave .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .snd .caf .w64 .rf64 .voc .nist .sph .avr .paf .pvf"
    " .ircam .sf .svx .8svx .iff .htk .xi .wve .mpc2k".split()
)

_MAX_RATE = 384_000
_MAX_CHANNELS = 64
_SILENT = 1e-3  # of full scale, 60 dB below it: lower levels are silence if nothing else is known
_SOFT = 1e-2  # of the recording's own largest sample, 40 dB below it
_MAX_S = 600  # longest part of a recording that is searched for sound


@dataclass(frozen=True, kw_only=True)
class Recording:
    """The beginning of a recording at one rate, and what was skipped."""

    samples: Tensor
    """float32 [num_samples]: the channels' mean, silence at its end."""
    skipped_s: float
    """Seconds of silence before it that were skipped."""
    is_cut: bool
    """Whether the recording continues."""

    @property
    def silence(self) -> float:
        """Fraction of the samples before the first sound; 1 if there is none."""
        sounds = (self.samples.abs() > _SILENT).nonzero()
        return float(sounds[0]) / len(self.samples) if len(sounds) else 1.0


def read_waveform(file: Path | io.BytesIO, sample_rate: int, num_samples: int, *, name: str = "") -> Tensor:
    """Read the beginning of a recording unchanged, float32 [num_samples]; see `read_recording`."""
    return read_recording(file, sample_rate, num_samples, name=name, silence="keep").samples


def read_recording(
    file: Path | io.BytesIO, sample_rate: int, num_samples: int, *, name: str = "", silence: Silence = "auto"
) -> Recording:
    """The beginning of a recording: its channels' mean at ``sample_rate``, silence at its end.

    No more of the file than that is read, whatever its header declares, unless its sound has to be found.

    Args:
        file: a path, or a file's bytes.
        sample_rate: samples per second of the result.
        num_samples: its length.
        name: name in error messages; by default the path.
        silence: "keep" reads from the beginning; "skip" from the first sample that is at most 40 dB softer than
            the loudest; "auto" as "keep", unless that would contain no sound although sound follows.

    Raises:
        ValueError: not a sound file, damaged, empty, or with numbers that are not finite.
        ModuleNotFoundError: the package soundfile is missing.
    """
    soundfile, name = _soundfile(), name or str(file)
    try:
        with soundfile.SoundFile(file) as sound:
            rate = int(sound.samplerate)
            if not 1 <= rate <= _MAX_RATE or not 1 <= sound.channels <= _MAX_CHANNELS:
                raise ValueError(f"{name}: {sound.channels} channels of {rate} Hz are not supported")
            wanted = math.ceil(num_samples * rate / sample_rate)
            samples, skipped, is_cut = _read_sound(sound, wanted, rate, silence)
    except soundfile.SoundFileError as error:
        raise ValueError(f"{name}: not a supported sound file ({' '.join(str(error).split())})") from None
    if len(samples) == 0:
        raise ValueError(f"{name}: contains no samples; remove it")
    if not bool(torch.isfinite(samples).all()):
        raise ValueError(f"{name}: contains NaN or infinity; write it again")
    samples = resample(samples, rate, sample_rate)[:num_samples]
    samples = functional.pad(samples, (0, num_samples - len(samples)))
    return Recording(samples=samples, skipped_s=skipped / rate, is_cut=is_cut)


def _read_sound(sound: Any, wanted: int, rate: int, silence: Silence) -> tuple[Tensor, int, bool]:
    """Return the samples [<= wanted] to use, how many were skipped before them, and whether more follow."""
    if silence == "skip":
        blocks = list(takewhile(len, (_mono(sound, rate) for _ in range(_MAX_S))))
        samples = torch.cat([torch.zeros(0), *blocks])
        loud = (samples.abs() >= _SOFT * samples.abs().max()).nonzero() if len(samples) else samples
        first = int(loud[0]) if len(loud) else 0
        return samples[first : first + wanted], first, len(samples) > first + wanted
    beginning = samples = _mono(sound, wanted)
    is_cut = sound.tell() < sound.frames
    skipped = 0
    while silence == "auto" and len(samples) > 0 and skipped < _MAX_S * rate and not _sounds(samples):
        skipped += len(samples)
        samples = _mono(sound, rate)
    if not skipped or not _sounds(samples):
        return beginning, 0, is_cut
    first = int((samples.abs() > _SILENT).nonzero()[0])
    found = torch.cat([samples[first:], _mono(sound, wanted)])
    return found[:wanted], skipped + first, len(found) > wanted


def _sounds(samples: Tensor) -> bool:
    """Whether samples are not silent; NaN, which is refused later, is not silent."""
    return not bool((samples.abs() <= _SILENT).all())


def _mono(sound: Any, num: int) -> Tensor:
    """The next samples of a file, at most ``num``, float32: the mean of its channels."""
    return torch.from_numpy(sound.read(num, dtype="float32", always_2d=True)).mean(1)


def write_waveform(path: Path, waveform: Tensor, sample_rate: int) -> None:
    """Write a waveform [N] within -1 .. 1 as a 16-bit WAV file."""
    _soundfile().write(path, waveform.cpu().numpy(), sample_rate, subtype="PCM_16")


def resample(samples: Tensor, rate: int, wanted: int) -> Tensor:
    """Samples [N] at another rate, [ceil(N * wanted / rate)], by cutting or extending their spectrum."""
    if rate == wanted:
        return samples
    # Both lengths must have exactly the same duration: pad with silence to the next such length.
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
        raise OSError(f"soundfile does not find libsndfile ({' '.join(str(error).split())}); install it") from None
    return soundfile
