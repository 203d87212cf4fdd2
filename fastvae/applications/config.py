"""Settings of applications, and their defaults that the command line shows. Nothing here imports PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

from fastvae.settings import Settings

ANOMALY_SAMPLES = 20
"""Draws of the latent that a row's score is a mean over."""
CODED_TOGETHER = 16
"""Examples that lossless compression codes together."""
MAX_COMPRESSED_GIB = 4.0
"""The most memory that a file of pixels may take."""
MAX_EASE_GIB = 4.0
"""The most memory that a recommender's report gives to EASE: enough for 11 500 items."""


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(Settings):
    """How features are judged."""

    num_train: int = 20_000
    """The most training examples that the classifiers see, from the start."""
    num_test: int = 10_000
    """The most test examples that they are judged by."""
    neighbours: int = 10
    """Nearest neighbours that vote on a label."""
    raw: bool = True
    """Also judge the raw input, which takes longest."""
    seed: int = 0
    """Of PCA's random directions and of the maps."""

    def __post_init__(self) -> None:
        if min(self.num_train, self.num_test, self.neighbours) < 1:
            raise ValueError(
                "probe: num_train, num_test and neighbours must be at least 1,"
                f" got {self.num_train}, {self.num_test} and {self.neighbours}"
            )
