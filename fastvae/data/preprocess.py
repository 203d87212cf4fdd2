"""What a preprocessing does: it turns raw examples into the batch that a model reads."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from fastvae.records import Batch


class Preprocessor(Protocol):
    """Makes a batch of raw examples. Each kind of data has its own, such as `Preprocess` for pixels."""

    def __call__(self, raw: Any, key: Tensor, *, indices: Tensor, evaluation: bool) -> Batch:
        """The batch that a model reads, on the device of ``key``.

        Args:
            raw: what the source gave for ``indices``, moved to that device.
            key: noise key, int64 ``[3]``; see `Preprocess`.
            indices: int64 ``[B]``, each example's index in its source: on the CPU in evaluation, in training maybe
                where ``raw`` is, and not to be waited for.
            evaluation: whether the noise is that of evaluation.
        """
        ...

    def log_jacobian_nats(self, event_numel: int) -> float | None:
        """What makes a density of ``x`` a probability of the discrete data; None: bits per dimension do not exist."""
        ...

    def mean(self, raw: Any) -> Tensor | None:
        """The expectation of ``x`` averaged over the examples, float64 ``[*event_shape]``; None: no such start."""
        ...
