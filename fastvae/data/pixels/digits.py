"""The handwritten digits that come with scikit-learn (Alpaydin and Kaynak 1998, UCI): 1797 images, no download."""

from __future__ import annotations

import torch

from fastvae.data.source import Source, TensorSource
from fastvae.data.views import split_every

LEVELS = 17
_TEST_EVERY = 5


def load_digits() -> tuple[Source, Source]:
    """Train (1437) and test (360) images, uint8 ``[N, 1, 8, 8]`` in 0 .. 16, with labels.

    The test set is the rows whose index is divisible by 5.
    """
    from sklearn import datasets  # imported here: it takes a second, and other data do not need it

    bunch = datasets.load_digits()
    images = torch.from_numpy(bunch.images).to(torch.uint8).unsqueeze(1)
    source = TensorSource(images, torch.from_numpy(bunch.target), levels=LEVELS, name="digits")
    return split_every(source, _TEST_EVERY)
