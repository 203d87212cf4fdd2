"""When the first steps diverge on data of a large scale, the message names the remedy that works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

import fastvae
from fastvae.train import TrainingDiverged
from fastvae.train.watch.scale import scale_advice
from tests import runs

SPREAD = torch.tensor([1.0, 10, 100, 1e3, 1e4, 1e5, 1, 1])
UNSCALED = torch.randn(200, 8, generator=torch.Generator().manual_seed(0)) * SPREAD + 1000


def vae() -> fastvae.VAE:
    torch.manual_seed(0)
    return fastvae.VAE(fastvae.MLPEncoder(8, 32, 2), fastvae.MLPDecoder(2, 32, 8), fastvae.Gaussian())


def test_the_remedy_for_unscaled_data_is_named_and_works(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match=r"values of up to \S+e\+05 \(column 5\): standardise each column"):
        runs.train(tmp_path / "unscaled", vae(), UNSCALED, steps=30)
    standardised = (UNSCALED - UNSCALED.mean(0)) / UNSCALED.std(0)
    assert runs.train(tmp_path / "standardised", vae(), standardised, steps=30).status == "done"


class Counted:
    """Examples and the key of their noise."""

    def __init__(self, x: Tensor) -> None:
        self.batch, self.key = fastvae.Batch(x=x, target=x), fastvae.noise_key(0)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.rand(4, 3), None),
        (torch.randint(0, 9000, (4, 3)), None),
        (torch.zeros(0, 3), None),
        (torch.full((4, 1, 2, 2), 255.0), "up to 255: standardise"),
        (torch.tensor([[0.0, 300.0], [torch.nan, 1.0]]), r"up to 300 \(column 1\)"),
    ],
)
def test_only_large_numbers_are_blamed(x: Tensor, words: str | None) -> None:
    found = scale_advice(vae(), [Counted(x)])
    assert (found is None) if words is None else re.search(words, str(found))


def test_counts_are_not_standardised() -> None:
    model = fastvae.VAE(fastvae.MLPEncoder(8, 4, 2), fastvae.MLPDecoder(2, 4, 8), fastvae.likelihoods.Multinomial())
    assert "torch.log1p(x)" in (scale_advice(model, [Counted(torch.full((2, 8), 5e4))]) or "")
