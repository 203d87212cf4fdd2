"""Dropout with counter-based noise."""

from __future__ import annotations

import pytest
import torch

from fastvae import noise_key
from fastvae.nn import KeyedDropout, drop_tokens


def test_the_dropped_fraction_is_the_rate_and_the_mean_is_preserved() -> None:
    x = torch.ones(512, 64)
    y = KeyedDropout(0.3, site=1)(x, noise_key(0, 5))
    assert abs(float((y == 0).float().mean()) - 0.3) < 0.01
    assert abs(float(y.mean()) - 1) < 0.02
    assert set(y.unique().tolist()) == {0.0, y.max().item()}


def test_dropped_units_depend_on_key_row_and_site_but_not_on_the_batch() -> None:
    dropout = KeyedDropout(0.5, site=1)
    whole = dropout(torch.ones(8, 3, 5), noise_key(1, 2, 100))
    part = dropout(torch.ones(3, 3, 5), noise_key(1, 2, 104))
    assert torch.equal(whole[4:7], part)
    assert torch.equal(whole, dropout(torch.ones(8, 3, 5), noise_key(1, 2, 100)))
    others = [noise_key(1, 3, 100), noise_key(2, 2, 100), noise_key(1, 2, 101)]
    assert not any(torch.equal(whole, dropout(torch.ones(8, 3, 5), key)) for key in others)
    assert not torch.equal(whole, KeyedDropout(0.5, site=2)(torch.ones(8, 3, 5), noise_key(1, 2, 100)))


def test_samples_of_an_example_have_independent_dropout() -> None:
    dropout, key = KeyedDropout(0.5, site=1), noise_key(1, 2)
    samples = dropout(torch.ones(3 * 4, 50), key, num_samples=3).view(3, 4, 50)
    assert torch.equal(samples[0], dropout(torch.ones(4, 50), key))
    assert not torch.equal(samples[0], samples[1])


def test_dropout_is_disabled_in_evaluation_without_a_key_and_at_rate_0() -> None:
    x = torch.randn(4, 6)
    assert KeyedDropout(0.5, site=1)(x) is x
    assert KeyedDropout(0.5, site=1).eval()(x, noise_key(0)) is x
    assert KeyedDropout(0.0, site=1)(x, noise_key(0)) is x
    with pytest.raises(ValueError, match=r"KeyedDropout: rate .*got 1"):
        KeyedDropout(1.0, site=1)


def test_the_global_generator_is_not_used() -> None:
    before = torch.get_rng_state()
    KeyedDropout(0.5, site=1)(torch.ones(4, 6), noise_key(0))
    assert torch.equal(before, torch.get_rng_state())


def test_tokens_are_dropped_at_the_given_rate() -> None:
    tokens = torch.full((400, 20), 9)
    dropped = drop_tokens(tokens, 0.25, 3, noise_key(4, 1))
    assert abs(float((dropped == 3).float().mean()) - 0.25) < 0.02
    assert torch.equal(drop_tokens(tokens, 0.0, 3, noise_key(4, 1)), tokens)
