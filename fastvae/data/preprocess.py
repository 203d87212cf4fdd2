"""The protocol of preprocessing: it converts raw examples to the batch that a model reads."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from fastvae.records import Batch


class Preprocessor(Protocol):
    """Converts raw examples to a batch. Each kind of data has its own, such as `Preprocess` for pixels."""

    def __call__(self, raw: Any, key: Tensor, *, indices: Tensor, evaluation: bool) -> Batch:
        """Return the batch that a model reads, on the device of ``key``.

        Args:
            raw: examples of the source at ``indices``, moved to that device.
            key: noise key, int64 ``[3]``; see `Preprocess`.
            indices: int64 ``[B]``, each example's index in its source: on the CPU in evaluation; in training possibly
                on the device of ``raw``, and not to be synchronised with.
            evaluation: whether the noise is that of evaluation.
        """
        ...

    def log_jacobian_nats(self, event_numel: int) -> float | None:
        """Correction from a density of ``x`` to a probability of the discrete data; None: it is not defined."""
        ...

    def mean(self, raw: Any) -> Tensor | None:
        """The expectation of ``x`` averaged over the examples, float64 ``[*event_shape]``; None if not defined."""
        ...
