"""Preprocessing: scaling, dequantisation and binarisation, with noise that depends on the example."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fastvae import noise_key
from fastvae.data import Preprocess
from fastvae.ops import Use, philox_uniform, stream

GREY = torch.arange(256, dtype=torch.uint8).view(4, 1, 8, 8)


def run(
    preprocess: Preprocess, raw: Tensor, *, step: int = 0, first_row: int = 0, indices: Tensor | None = None
) -> Tensor:
    evaluation = indices is not None
    rows = torch.arange(len(raw)) if indices is None else indices
    return preprocess(raw, noise_key(9, step, first_row), indices=rows, evaluation=evaluation).x


def test_scaling_covers_zero_to_one_exactly() -> None:
    x = run(Preprocess(levels=256), GREY)
    assert x.dtype == torch.float32
    assert x.shape == GREY.shape
    assert (x.min(), x.max()) == (0.0, 1.0)
    torch.testing.assert_close(x, GREY.float() / 255, rtol=1e-6, atol=0)
    digits = run(Preprocess(levels=17), torch.arange(17, dtype=torch.uint8).view(1, 17))
    assert torch.equal(digits, torch.arange(17).view(1, 17) / 16)


def test_a_batch_has_the_indices_of_its_rows_and_raw_is_unchanged() -> None:
    raw = GREY.clone()
    for preprocess in (Preprocess(levels=256, binarize=True), Preprocess(levels=256, dequantize=True)):
        batch = preprocess(raw, noise_key(0), indices=torch.tensor([4, 2, 9, 0]), evaluation=False)
        assert batch.rows is not None
        assert batch.rows.tolist() == [4, 2, 9, 0]
        assert batch.target is batch.x
    floats = torch.rand(3, 5, generator=torch.Generator().manual_seed(0))
    copy = floats.clone()
    run(Preprocess(binarize=True), floats)
    assert torch.equal(raw, GREY)
    assert torch.equal(floats, copy)


def test_binary_and_continuous_examples_are_unchanged() -> None:
    binary = torch.eye(4, dtype=torch.uint8)
    assert torch.equal(run(Preprocess(levels=2), binary), torch.eye(4))
    floats = torch.linspace(-3, 3, 12).view(3, 4)
    assert torch.equal(run(Preprocess(), floats), floats)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_dequantised_pixels_are_inside_their_cell_and_below_one(levels: int) -> None:
    raw = torch.full((1000, 1000), levels - 1, dtype=torch.uint8)  # the top cell is where float32 rounds up to 1
    x = run(Preprocess(levels=levels, dequantize=True), raw)
    assert float(x.max()) < 1
    assert float(x.min()) >= (levels - 1) / levels - 1e-7
    low = run(Preprocess(levels=levels, dequantize=True), torch.zeros_like(raw))
    assert float(low.min()) > 0
    u = low.double() * levels
    assert abs(float(u.mean()) - 0.5) < 5 / math.sqrt(12 * u.numel())
    assert abs(float(u.var()) - 1 / 12) < 1e-3


def test_binarisation_compares_pixels_with_their_noise() -> None:
    x = run(Preprocess(levels=256, binarize=True), GREY, step=5, first_row=70)
    u = philox_uniform(noise_key(9, 5, 70), 4, 64, stream=stream(Use.PIXELS)).view(GREY.shape)
    assert torch.equal(x, (u * 255 < GREY).float())


def test_grey_values_are_the_probabilities_of_binarisation() -> None:
    raw = torch.arange(256, dtype=torch.uint8).expand(20_000, 256)
    x = run(Preprocess(levels=256, binarize=True), raw)
    probability = torch.arange(256) / 255
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert float(x[:, 0].sum()) == 0  # black is never sampled as white
    assert bool((x[:, 255] == 1).all())
    deviation = (x.mean(dim=0) - probability)[1:255] / (probability * (1 - probability) / 20_000).sqrt()[1:255]
    assert float(deviation.abs().max()) < 5
    floats = run(Preprocess(binarize=True), probability.expand(20_000, 256))
    assert float((floats != x).double().mean()) < 1e-5  # the same noise, up to one rounding of the probability


def test_training_noise_follows_the_row_of_the_global_batch() -> None:
    preprocess = Preprocess(levels=256, binarize=True)
    whole = run(preprocess, GREY, step=3, first_row=10)
    parts = [run(preprocess, GREY[:1], step=3, first_row=10), run(preprocess, GREY[1:], step=3, first_row=11)]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole, run(preprocess, GREY, step=4, first_row=10))


@pytest.mark.parametrize("preprocess", [Preprocess(levels=256, binarize=True), Preprocess(levels=256, dequantize=True)])
def test_evaluation_noise_follows_the_example(preprocess: Preprocess) -> None:
    raw = torch.full((10, 64), 128, dtype=torch.uint8)
    whole = run(preprocess, raw, indices=torch.arange(10))
    assert torch.equal(whole, run(preprocess, raw, indices=torch.arange(10), step=0, first_row=0))
    for indices in ([7], [0, 1, 2, 9], [5, 4, 3], [2, 2, 3, 8, 9, 0], []):
        chosen = torch.tensor(indices, dtype=torch.int64)
        assert torch.equal(run(preprocess, raw[chosen], indices=chosen), whole[chosen])
    assert not torch.equal(whole, run(preprocess, raw))  # training has other numbers, in step 0 too


def test_an_empty_batch_is_accepted() -> None:
    for preprocess in (Preprocess(levels=256), Preprocess(levels=256, binarize=True)):
        assert run(preprocess, GREY[:0]).shape == (0, 1, 8, 8)
        assert run(preprocess, GREY[:0], indices=torch.arange(0)).shape == (0, 1, 8, 8)


def test_bits_are_defined_for_discrete_likelihoods_only() -> None:
    assert Preprocess(levels=17, dequantize=True).log_jacobian_nats(64) == pytest.approx(64 * math.log(17))
    assert Preprocess(levels=256, binarize=True).log_jacobian_nats(784) == 0.0
    assert Preprocess(levels=2).log_jacobian_nats(784) == 0.0
    assert Preprocess(levels=256).log_jacobian_nats(784) is None
    assert Preprocess().log_jacobian_nats(784) is None


def test_the_jacobian_turns_a_density_into_a_discrete_likelihood() -> None:
    """With a density that is constant on each cell the bound is tight: -log p(v) = -log p(x) + log_jacobian."""
    probability = torch.tensor([0.5, 0.25, 0.125, 0.125])
    preprocess = Preprocess(levels=4, dequantize=True)
    x = run(preprocess, torch.arange(4, dtype=torch.uint8)[:, None])
    density = probability[(x[:, 0] * 4).long()] * 4
    jacobian = preprocess.log_jacobian_nats(1)
    assert jacobian is not None
    torch.testing.assert_close(-density.log() + jacobian, -probability.log())


def test_the_mean_agrees_with_many_samples() -> None:
    raw = torch.tensor([[0, 100, 255]], dtype=torch.uint8).expand(50_000, 3)
    for preprocess in (
        Preprocess(levels=256),
        Preprocess(levels=256, binarize=True),
        Preprocess(levels=256, dequantize=True),
    ):
        torch.testing.assert_close(run(preprocess, raw).double().mean(0), preprocess.mean(raw), atol=0.012, rtol=0)
    assert torch.equal(Preprocess().mean(torch.tensor([[1.0], [3.0]])), torch.tensor([2.0], dtype=torch.float64))


@pytest.mark.parametrize(
    ("preprocess", "words"),
    [
        (Preprocess(levels=17, dequantize=True), "17 levels, dequantised"),
        (Preprocess(levels=256, binarize=True), "binarised in every step"),
        (Preprocess(levels=2), "binary"),
        (Preprocess(levels=256), "256 levels, scaled"),
        (Preprocess(), "continuous"),
    ],
)
def test_the_description_names_the_transformations(preprocess: Preprocess, words: str) -> None:
    assert words in preprocess.describe


def test_impossible_transformations_are_refused() -> None:
    with pytest.raises(ValueError, match="levels must be at least 2"):
        Preprocess(levels=1)
    with pytest.raises(ValueError, match="dequantize requires discrete pixels"):
        Preprocess(dequantize=True)
    with pytest.raises(ValueError, match="exclude each other"):
        Preprocess(levels=256, dequantize=True, binarize=True)


def test_the_global_generator_is_not_used() -> None:
    before = torch.get_rng_state()
    run(Preprocess(levels=256, binarize=True), GREY)
    assert torch.equal(before, torch.get_rng_state())
