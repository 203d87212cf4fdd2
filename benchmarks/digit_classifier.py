"""A small convolutional classifier that is trained on real MNIST digits and evaluates generated ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastvae.data import Source, order_index


def build_classifier(seed: int) -> nn.Module:
    """Build a network from images [N, 1, 28, 28] in [0, 1] to logits [N, 10]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 49, 128),
            nn.ReLU(),
            nn.Linear(128, 10),
        )


def train_classifier(source: Source, *, epochs: int = 3, batch_size: int = 128, seed: int = 0) -> nn.Module:
    """Train on images and labels; half of each batch is binarised, so that grey levels do not matter."""
    classifier, labels = build_classifier(seed), source.labels
    assert labels is not None
    steps = epochs * len(source) // batch_size
    optimizer = torch.optim.Adam(classifier.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        indices = order_index(torch.arange(step * batch_size, (step + 1) * batch_size), len(source), seed)
        images = _scaled(source[indices])
        images[::2] = (images[::2] > 0.5).float()
        loss = functional.cross_entropy(classifier(images), labels[indices])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return classifier.eval()


@torch.no_grad()
def classify(classifier: nn.Module, images: Tensor) -> Tensor:
    """The predicted digits int64 [N] of images [N, 1, 28, 28] in [0, 1]."""
    return torch.cat([classifier(part).argmax(1) for part in images.split(1000)])


def accuracy(classifier: nn.Module, source: Source) -> float:
    """The accuracy on a source's images."""
    images = _scaled(source[torch.arange(len(source))])
    assert source.labels is not None
    return float((classify(classifier, images) == source.labels).double().mean())


def _scaled(pixels: Tensor) -> Tensor:
    return pixels.float() / 255
