"""A picture that cannot be drawn is a line of the log, and never fails a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import fastvae
from tests import runs


class Unpresentable(fastvae.VAE):
    """A VAE whose samples cannot be made."""

    def sample(self, num: int, *arguments: object, **options: object) -> Tensor:
        raise RuntimeError("no prior\nyet")


@pytest.mark.usefixtures("pictures")
def test_a_picture_that_fails_is_a_line_and_the_others_are_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder, decoder = fastvae.MLPEncoder(64, 8, 2), fastvae.MLPDecoder(2, 8, 64)
    model = Unpresentable(encoder, decoder, fastvae.Gaussian())
    run = runs.train(tmp_path, model, torch.rand(40, 1, 8, 8), steps=2)
    assert (run.status, runs.status(tmp_path)["state"]) == ("done", "done")
    assert "samples.png is not written (RuntimeError: no prior yet)" in capsys.readouterr().err
    names = {path.name for path in tmp_path.glob("*.png")}
    assert names == {"curves.png", "latents.png", "reconstructions.png"}
    assert (tmp_path / "evaluation.json").exists()
