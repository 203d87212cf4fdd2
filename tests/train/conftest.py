"""Runs of these tests draw no pictures, which would take longer than their steps; `pictures` asks for them."""

from __future__ import annotations

import pytest

from fastvae.train import trainer


@pytest.fixture
def pictures() -> None:
    """The runs of this test draw their pictures."""


@pytest.fixture(autouse=True)
def no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr(trainer, "write_pictures", lambda *_: None)
