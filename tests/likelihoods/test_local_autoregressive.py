"""Local autoregressive likelihood: causal, normalised, equal in parallel and in order, and drawn with keyed noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastvae import ops
from fastvae.data import as_data
from fastvae.likelihoods import BoundLocalAutoregressive, LocalAutoregressive, Window
from fastvae.models import ModelConfig, ModelInputs, build_model
from fastvae.records import Batch

LEVELS = 6
SHAPES = [(1, 5, 7), (3, 4, 3), (2, 1, 4), (1, 3, 1)]


def bound(shape: tuple[int, ...], *, num: int = 3) -> BoundLocalAutoregressive:
    """The distribution of ``num`` images under a likelihood with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        likelihood = LocalAutoregressive(shape, LEVELS, width=8, num_logistics=2, num_histograms=3).double()
        for parameter in likelihood.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
        features = torch.randn(num, *likelihood.output_shape(shape), dtype=torch.float64)
    return likelihood(features)


def images(shape: tuple[int, ...], *, num: int = 3) -> Tensor:
    words = ops.philox_integers(ops.noise_key(1), num, torch.Size(shape).numel())
    return ((words >> 8) % LEVELS).view(num, *shape).double() / (LEVELS - 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_all_pixels_in_one_pass_have_the_probabilities_of_coding_in_order(shape: tuple[int, ...]) -> None:
    p, x = bound(shape), images(shape)
    total, seen = torch.zeros(len(x), dtype=torch.float64), []
    given = torch.full_like(x, torch.nan)  # pixels that are not coded yet must not be read
    for step in p.in_order(given):
        level = (x.flatten(1)[:, step.columns] * (LEVELS - 1)).round().long()
        below, above = (step.distribution.probability_below(each.flatten(), LEVELS) for each in (level, level + 1))
        total += (above - below).log().view(level.shape).sum(1)
        given.flatten(1)[:, step.columns] = x.flatten(1)[:, step.columns]
        seen.append(step.columns)
    assert torch.cat(seen).sort().values.tolist() == list(range(x[0].numel()))
    torch.testing.assert_close(total, p.log_prob(x))


def test_probabilities_of_all_images_sum_to_1() -> None:
    shape = (2, 1, 2)
    every = torch.cartesian_prod(*[torch.arange(LEVELS)] * 4).view(-1, *shape).double() / (LEVELS - 1)
    p = bound(shape, num=1)
    all_given = BoundLocalAutoregressive(p.features.expand(len(every), -1, -1), p.likelihood)
    assert all_given.log_prob(every).exp().sum().item() == pytest.approx(1)


def test_samples_of_z_and_masked_pixels() -> None:
    p, x = bound((1, 5, 7), num=6), images((1, 5, 7))
    several = BoundLocalAutoregressive(p.features.view(2, 3, *p.features.shape[1:]), p.likelihood)
    torch.testing.assert_close(several.log_prob(x).flatten(), p.log_prob(x.repeat(2, 1, 1, 1)))
    mask = torch.ones_like(x)
    mask[:, :, -1] = 0  # the last row: no other pixel reads it
    missing = x.masked_fill(mask == 0, torch.nan)
    row = BoundLocalAutoregressive(p.features[:3], p.likelihood)
    changed = torch.where(mask == 0, 1 - x, x)
    torch.testing.assert_close(row.log_prob(missing, mask), row.log_prob(changed, mask))
    assert bool((row.log_prob(missing, mask) > row.log_prob(x)).all())


def test_drawn_images_depend_on_the_row_of_the_global_batch_only() -> None:
    p = bound((3, 4, 3), num=5)
    drawn = p.sample(ops.noise_key(7))
    assert set((drawn * (LEVELS - 1)).round().unique().tolist()) == set(range(LEVELS))
    last = BoundLocalAutoregressive(p.features[2:], p.likelihood)
    assert torch.equal(last.sample(ops.noise_key(7, 0, 2)), drawn[2:])
    assert not torch.equal(p.sample(ops.noise_key(8)), drawn)
    assert torch.equal(p.mean, p.mean)
    assert p.mean.shape == drawn.shape


def test_drawn_pixels_have_the_models_probabilities() -> None:
    p = bound((2, 1, 1), num=1)
    many = BoundLocalAutoregressive(p.features.expand(20000, -1, -1), p.likelihood)
    levels = (many.sample(ops.noise_key(0)).flatten(1) * (LEVELS - 1)).round().long()
    found = torch.bincount(levels[:, 0] * LEVELS + levels[:, 1], minlength=LEVELS**2) / len(levels)
    every = torch.cartesian_prod(torch.arange(LEVELS), torch.arange(LEVELS)).view(-1, 2, 1, 1).double() / (LEVELS - 1)
    expected = BoundLocalAutoregressive(p.features.expand(len(every), -1, -1), p.likelihood).log_prob(every).exp()
    torch.testing.assert_close(found.double(), expected, atol=0.015, rtol=0)


@pytest.mark.parametrize("window", [Window(), Window(above=1, left=1, right=0), Window(above=2, left=3, right=4)])
def test_neighbours_are_in_earlier_diagonals(window: Window) -> None:
    height, width = 5, 4
    time = torch.empty(height * width, dtype=torch.int64)
    for entry, pixels in enumerate(window.diagonals(height, width)):
        time[pixels] = entry
    neighbours = window.neighbours(height, width)
    assert neighbours[:, 1:].max() < height * width
    assert bool((neighbours[:, 0] == height * width).all())  # the first pixel has none
    assert bool((time[neighbours[:, 1:]] < time[1:]).all())
    assert len(window.diagonals(height, width)) == width + (window.right + 1) * (height - 1)


def test_a_model_draws_its_examples_in_order() -> None:
    inputs = ModelInputs(event_shape=(1, 8, 8), num_levels=17)
    model = build_model(ModelConfig(likelihood="local-autoregressive", latent_dim=4), inputs)
    key = ops.noise_key(3)
    drawn = model.sample(2, key)
    assert torch.equal(drawn, model.decode(model.draw_prior(2, key)).sample(key))
    terms = model(Batch(x=drawn, target=drawn), key)
    terms.distortion.mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_unsuitable_settings_and_data_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \[64\]"):
        LocalAutoregressive((64,))
    with pytest.raises(ValueError, match=r"num_levels .* got 1,"):
        LocalAutoregressive((1, 8, 8), 1)
    with pytest.raises(ValueError, match=r"got \[2, 1, 8, 8\]"):
        LocalAutoregressive((1, 8, 8))(torch.zeros(2, 1, 8, 8))
    with pytest.raises(ValueError, match="got 0, 3 and 2"):
        Window(above=0)
    data = as_data((torch.rand(9, 1, 4, 4) * 255).to(torch.uint8), dequantize=True)
    with pytest.raises(ValueError, match=r"--data\.dequantize False"):
        build_model(ModelConfig(likelihood="local-autoregressive"), data.model_inputs)


class Scorer(torch.nn.Module):
    """The log probability of images given the decoder's features."""

    def __init__(self) -> None:
        super().__init__()
        self.likelihood = LocalAutoregressive((1, 4, 4), LEVELS, width=8)

    def forward(self, features: Tensor, x: Tensor) -> Tensor:
        return self.likelihood(features).log_prob(x)


def test_the_log_probability_is_exported_with_any_batch() -> None:
    scorer, x = Scorer(), images((1, 4, 4)).float()
    batch = {0: torch.export.Dim("batch")}
    features = torch.zeros(3, 8, 4, 4)
    exported = torch.export.export(scorer, (features[:2], x[:2]), dynamic_shapes=(batch, batch)).module()
    torch.testing.assert_close(exported(features, x), scorer(features, x))
