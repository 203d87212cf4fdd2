"""Spectrograms of known sounds, and their inversion."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fastvae.data.audio.inversion import waveforms_of
from fastvae.data.audio.spectrogram import SpectrogramConfig, log_mel, mel_filters

CONFIG = SpectrogramConfig()


def tone(frequency_hz: float, amplitude: float = 0.5) -> Tensor:
    """Return one clip of a sine, [1, samples]."""
    time = torch.arange(CONFIG.num_samples) / CONFIG.sample_rate
    return amplitude * torch.sin(2 * math.pi * frequency_hz * time).unsqueeze(0)


def band_of(frequency_hz: float) -> int:
    """Return the mel band with the closest centre, by HTK's formula."""
    mel = 2595 * math.log10(1 + frequency_hz / 700)
    return round(mel / (2595 * math.log10(1 + 4000 / 700)) * (CONFIG.num_mels + 1)) - 1


def test_silence_has_the_minimum_value() -> None:
    silence = log_mel(torch.zeros(2, CONFIG.num_samples), CONFIG)
    assert silence.shape == (2, 32, 32)
    assert torch.allclose(silence, torch.tensor(math.log(1e-6)))


def test_an_empty_batch_gives_no_spectrograms() -> None:
    assert log_mel(torch.empty(0, CONFIG.num_samples), CONFIG).shape == (0, 32, 32)


def test_filters_are_triangles_of_height_one_on_the_mel_scale() -> None:
    filters = mel_filters(SpectrogramConfig(window=8192, num_samples=8192, hop=4096))
    assert filters.shape == (32, 4097)
    assert float(filters.max()) == pytest.approx(1, abs=0.02)
    # Neighbours overlap so that they add up to 1 between the first and the last centre.
    inner = filters.sum(0)[60:3500]
    assert torch.allclose(inner, torch.ones_like(inner), atol=1e-5)


@pytest.mark.parametrize("frequency_hz", [300.0, 1000.0, 2500.0])
def test_a_tone_has_its_maximum_in_its_band(frequency_hz: float) -> None:
    assert abs(int(log_mel(tone(frequency_hz), CONFIG)[0, :, 16].argmax()) - band_of(frequency_hz)) <= 1


@pytest.mark.parametrize("frequency_hz", [300.0, 1000.0, 2500.0])
def test_inversion_recovers_the_tone(frequency_hz: float) -> None:
    wanted = log_mel(tone(frequency_hz), CONFIG)
    again = log_mel(waveforms_of(wanted, CONFIG), CONFIG)
    loud = wanted > wanted.max() - 4
    assert float((again - wanted)[loud].abs().mean()) < 1


def test_inversion_does_not_clip_and_keeps_silence() -> None:
    loud = torch.full((1, 32, 32), 2 * math.log(CONFIG.window))
    assert 0.9 < float(waveforms_of(loud, CONFIG).abs().max()) <= 0.9501
    assert float(waveforms_of(torch.full((1, 32, 32), math.log(1e-6)), CONFIG).abs().max()) < 1e-3


def test_random_phases_depend_on_the_key() -> None:
    spectrogram = log_mel(tone(700.0), CONFIG)
    before = torch.random.get_rng_state()
    first = waveforms_of(spectrogram, CONFIG)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(5)
    assert torch.equal(waveforms_of(spectrogram, CONFIG), first)
    assert not torch.equal(waveforms_of(spectrogram, CONFIG, seed=1), first)


@pytest.mark.parametrize("settings", [{"hop": 600}, {"num_samples": 8000}, {"window": 511}, {"floor": 0.0}])
def test_invalid_sizes_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="SpectrogramConfig"):
        SpectrogramConfig(**settings)


def test_constants_are_on_the_device_of_the_sound() -> None:
    """On the meta device as on a GPU: operators use no constants of the host."""
    config = SpectrogramConfig()
    spectrogram = log_mel(torch.empty(3, config.num_samples, device="meta"), config)
    assert (spectrogram.device.type, spectrogram.shape) == ("meta", (3, config.num_mels, config.num_frames))
