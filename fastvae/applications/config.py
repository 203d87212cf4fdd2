"""Settings of the applications and the defaults that the command line shows. This module does not import PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

from fastvae.settings import Settings

ANOMALY_SAMPLES = 20
"""Number of latent samples that a row's score is averaged over."""
CODED_TOGETHER = 16
"""Examples that lossless compression codes together."""
MAX_COMPRESSED_GIB = 4.0
"""Largest allowed size of a decompressed file of pixels."""
MAX_EASE_GIB = 4.0
"""Largest amount of memory that EASE may use in a recommender's report: enough for 11 500 items."""


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(Settings):
    """How features are evaluated."""

    num_train: int = 20_000
    """Largest number of training examples to fit the classifiers to; the first ones are used."""
    num_test: int = 10_000
    """Largest number of test examples to evaluate the classifiers on; the first ones are used."""
    neighbours: int = 10
    """Number of nearest neighbours that vote on a label."""
    raw: bool = True
    """Also evaluate the raw input, which takes longest."""
    seed: int = 0
    """Seed of randomised PCA and of the t-SNE maps."""

    def __post_init__(self) -> None:
        if min(self.num_train, self.num_test, self.neighbours) < 1:
            raise ValueError(
                "probe: num_train, num_test and neighbours must be at least 1,"
                f" got {self.num_train}, {self.num_test} and {self.neighbours}"
            )
