"""A small convolutional classifier that is trained on real spoken digits and evaluates generated ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastvae.data import Data, LogMelPreprocess, order_index
from fastvae.ops import Use, noise_key, philox_normal, philox_uniform, stream

_MAX_SHIFT = 2  # largest shift of a spectrogram in training, in frames and bands
_NOISE = 0.3  # largest noise level in training, in standard deviations of the data


def build_classifier(seed: int) -> nn.Module:
    """Build a network from standardised spectrograms [N, 1, 32, 32] to logits [N, 10]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(48, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(1024, 10),
        )


def train_classifier(data: Data, *, epochs: int = 15, batch_size: int = 64, seed: int = 0) -> nn.Module:
    """Train on the real training clips and their labels, with random shifts and noise."""
    classifier, labels = build_classifier(seed), data.train.labels
    x = spectrograms(data, data.train[torch.arange(len(data.train))])
    assert labels is not None
    steps = epochs * len(x) // batch_size
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for step in range(steps):
        indices = order_index(torch.arange(step * batch_size, (step + 1) * batch_size), len(x), seed)
        loss = functional.cross_entropy(classifier(_varied(x[indices], seed, step)), labels[indices])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return classifier.eval()


@torch.no_grad()
def classify(classifier: nn.Module, x: Tensor) -> Tensor:
    """The predicted digits int64 [N] of standardised spectrograms [N, 1, 32, 32]."""
    return torch.cat([classifier(part).argmax(1) for part in x.split(500)])


def spectrograms(data: Data, waveforms: Tensor) -> Tensor:
    """Standardised spectrograms [N, 1, 32, 32] of waveforms [N, samples]."""
    assert isinstance(data.preprocess, LogMelPreprocess)
    return data.preprocess.standardize(data.preprocess.log_mel(waveforms))


def _varied(x: Tensor, seed: int, step: int) -> Tensor:
    key = noise_key(seed, step)
    moves = philox_uniform(key, 3, 1, stream=stream(Use.AUGMENTATION)).flatten()
    down, right = ((moves[:2] * (2 * _MAX_SHIFT + 1)).long() - _MAX_SHIFT).tolist()
    noise = philox_normal(key, len(x), x[0].numel(), stream=stream(Use.AUGMENTATION, site=1)).view(x.shape)
    return torch.roll(x, (down, right), (2, 3)) + _NOISE * moves[2] * noise
