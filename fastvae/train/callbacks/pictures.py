"""Samples and reconstructions during training, shown by the loggers."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fastvae.evaluate import Evaluation
from fastvae.figures import find_renderer
from fastvae.generative import AnyModel
from fastvae.train.callbacks.callback import Callback, RunView
from fastvae.train.run_dir.results import write_reconstructions, write_samples


class Pictures(Callback):
    """Draws samples and reconstructions at every Nth evaluation.

    Args:
        every: number of evaluations from one to the next, at least 1.

    Raises:
        ValueError: ``every`` is below 1.
    """

    def __init__(self, every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"Pictures: every must be at least 1, got {every}")
        self._every, self._count = every, 0

    def on_evaluation(self, run: RunView, evaluation: Evaluation) -> None:
        self._count += 1
        suffix = find_renderer(run.data).suffix
        if self._count % self._every or suffix not in (".png", ".txt"):  # loggers show pictures and texts only
            return
        with run.weights() as model, tempfile.TemporaryDirectory() as folder:
            if not run.is_main:
                return
            able = AnyModel(model)
            if able.can("reconstruct"):
                path = Path(folder) / f"reconstructions{suffix}"
                write_reconstructions(path, model, run.data, num=24, seed=run.seed)
                run.show("reconstructions", path)
            if able.can("sample"):
                path = Path(folder) / f"samples{suffix}"
                write_samples(path, model, run.data, num=64, seed=run.seed)
                run.show("samples", path)

    def state_dict(self) -> dict[str, int]:
        return {"count": self._count}

    def load_state_dict(self, state: dict[str, int]) -> None:  # type: ignore[override]
        self._count = state["count"]
