"""The output of a run in a notebook; the module IPython is replaced."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from fastvae.train.run_dir.notebook import curve
from tests import runs


class ZMQInteractiveShell:
    """Has the name of the shell of notebooks."""


class Handle:
    def __init__(self, shown: list[str]) -> None:
        self._shown = shown

    def update(self, text: str) -> None:
        self._shown.append(text)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the cell shows, after each change."""
    texts: list[str] = []

    def display(text: str, display_id: bool) -> Handle:
        texts.append(text)
        return Handle(texts)

    ipython: Any = types.ModuleType("IPython")
    ipython.get_ipython = ZMQInteractiveShell
    ipython.display = types.ModuleType("IPython.display")
    ipython.display.HTML, ipython.display.display = str, display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
    return texts


def test_a_notebook_shows_a_bar_and_a_curve(
    shown: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = runs.train(tmp_path, steps=6, log_every=2, eval_every=3)
    assert capfd.readouterr().err == ""
    assert '<progress value="6" max="6"' in shown[-1]
    assert "<polyline" in shown[-1]
    assert "digits: 1,437 examples" in shown[-1]
    assert "evaluation 3/6" in shown[-1]
    assert "final 6/6" in shown[-1]
    assert "train 2/6" not in shown[-1]
    assert repr(run).startswith(f"Run({str(tmp_path)!r}, done at step 6, nll_nats=")


def test_a_run_without_progress_shows_nothing(shown: list[str], tmp_path: Path) -> None:
    runs.train(tmp_path, steps=2, progress=False)
    assert shown == []


def test_a_curve_spans_its_values() -> None:
    drawn = curve([(1, 5.0), (2, 3.0), (3, 4.0)])
    assert 'points="0.0,0.0 240.0,120.0 480.0,60.0"' in drawn
    assert "5 at step 1, 4 at step 3" in drawn
    assert curve([(1, 5.0)]) == ""
    assert "nan" not in curve([(1, 2.0), (2, 2.0)])
