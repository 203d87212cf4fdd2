"""Disable the figures of a run, which take longer than its steps; the fixture `pictures` enables them."""

from __future__ import annotations

import pytest

from fastvae.train import loop


@pytest.fixture
def pictures() -> None:
    """Enable the figures of the runs of this test."""


@pytest.fixture(autouse=True)
def no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr(loop, "write_pictures", lambda *_: None)
