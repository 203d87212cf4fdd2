"""How long the steps wait for their examples, and which examples were replaced."""

from __future__ import annotations

from collections.abc import Callable

import torch

from fastvae.data import Loader
from fastvae.distributed import Strategy
from fastvae.train.stepping import Step

_MUCH = 0.1  # of the time
_SAID = 10  # number of replaced examples that are printed


class DataWatch:
    """Metrics of the data, where examples are decoded one by one, read by workers or replaced.

    Args:
        loader: the loader of the run.
        take_step: the steps of the run.
        first_step: the first step of this process.
        strategy: adds up the numbers of the ranks.
        say: prints a line.
    """

    def __init__(
        self, loader: Loader, take_step: Step, first_step: int, strategy: Strategy, say: Callable[[str], None]
    ) -> None:
        self._num_workers = loader.loading.num_workers(loader.source)
        self._is_measured = loader.source.is_decoded or self._num_workers > 0
        self._replaces = loader.loading.on_bad_example == "replace"
        self._take_step, self._strategy, self._say = take_step, strategy, say
        self._before_s, self._step, self._is_first, self._num_said = 0.0, first_step, True, 0
        self._total_s, self._seconds, self._steps, self._is_said = 0.0, 0.0, 0, False

    def numbers(self, step: int, seconds: float) -> dict[str, float]:
        """Return the metrics of the steps since the last call, up to ``step``, which took ``seconds``.

        All ranks call it together.
        """
        found: dict[str, float] = {}
        if step != self._step and self._is_measured:
            found = self._wait(step, seconds)
        if self._replaces:
            found["replaced_examples"] = self._replaced()
        return found

    def end(self) -> None:
        """Print how long the steps of the run waited."""
        if self._steps:
            self._say(
                f"data: each step waited {1000 * self._total_s / self._steps:.3g} ms for its examples, "
                f"{self._total_s / self._seconds:.1%} of the time ({self._readers()})"
            )

    def _wait(self, step: int, seconds: float) -> dict[str, float]:
        waited_s, num_steps = self._take_step.waited_s - self._before_s, step - self._step
        self._before_s, self._step = self._before_s + waited_s, step
        if self._is_first:  # includes the start of the workers and the first batch, which nothing can hide
            self._is_first = False
        else:
            self._total_s, self._seconds = self._total_s + waited_s, self._seconds + seconds
            self._steps += num_steps
            self._warn(waited_s / seconds)
        return {"data_wait_ms": 1000 * waited_s / num_steps, "data_wait_share": waited_s / seconds}

    def _replaced(self) -> int:
        """Return the number on all ranks since the start of this process, and print this rank's new ones."""
        reasons = self._take_step.replaced
        for reason in reasons[self._num_said : _SAID]:
            self._say(f"an example was replaced by another one (--data.on-bad-example): {reason}")
        self._num_said = len(reasons)
        device = self._strategy.world.device
        return int(self._strategy.all_reduce_sum(torch.tensor([float(len(reasons))], device=device)).item())

    def _warn(self, share: float) -> None:
        if share <= _MUCH or self._is_said:
            return
        self._is_said = True
        self._say(
            f"data: the steps wait for their examples {share:.0%} of the time ({self._readers()}). More workers read "
            "faster if there are cores for them (--data.workers); so do smaller files, such as images that are stored "
            "at the size that the model reads"
        )

    def _readers(self) -> str:
        if not self._num_workers:
            return "read in the training process"
        return f"{self._num_workers} worker{'s' if self._num_workers > 1 else ''} per rank"
