"""Durations in steps, epochs or shares of a run."""

from __future__ import annotations

from typing import Any

import pytest

import fastvae
from fastvae.durations import Clock, is_shorter, steps_of
from fastvae.objective import ObjectiveConfig, kl_weight_at
from fastvae.train import in_steps
from fastvae.train.optim import lr_at


@pytest.mark.parametrize(
    ("written", "kept"),
    [(1000, 1000), ("1000", 1000), ("2.50ep", "2.5ep"), ("3 epochs", "3ep"), ("10%", "10%"), (".5ep", "0.5ep")],
)
def test_a_duration_has_one_spelling(written: int | str, kept: int | str) -> None:
    assert fastvae.TrainConfig(eval_every=written).eval_every == kept


@pytest.mark.parametrize("wrong", [-1, "-1", "1.5", "ten", "10 %%", "101%", True, 2.5, "1e3", ""])
def test_what_is_not_a_duration_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"warmup must be a number of steps such as 1000, of epochs such as 2\.5ep"):
        fastvae.TrainConfig(warmup=wrong)


@pytest.mark.parametrize("zero", [0, "0ep", "0%"])
def test_an_interval_of_no_steps_is_refused(zero: int | str) -> None:
    for name in ("eval_every", "checkpoint_every", "log_every"):
        with pytest.raises(ValueError, match=f"train.{name} must be at least 1 step"):
            fastvae.TrainConfig(**{name: zero})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("duration", "steps"), [(7, 7), ("1ep", 8), ("2.5ep", 20), ("10%", 4), ("0ep", 0), ("0.001ep", 1), ("100%", 40)]
)
def test_durations_are_rounded_to_steps(duration: int | str, steps: int) -> None:
    assert Clock(num_examples=500, global_batch_size=64, num_steps=40).steps(duration) == steps


def test_every_example_is_seen_in_every_epoch_of_a_run() -> None:
    assert in_steps(fastvae.TrainConfig(epochs=1, global_batch_size=128), 129).num_steps == 2
    assert in_steps(fastvae.TrainConfig(epochs=3, global_batch_size=100), 1000).num_steps == 30
    assert in_steps(fastvae.TrainConfig(epochs=0.01), 10).num_steps == 1


def test_steps_replace_epochs_and_the_batch_is_cut_to_the_data() -> None:
    config = in_steps(fastvae.TrainConfig(epochs=5, steps=7, global_batch_size=128, eval_every="1ep"), 50)
    assert (config.num_steps, config.global_batch_size, config.eval_every) == (7, 50, 1)


def test_all_settings_of_a_run_scale_with_it() -> None:
    objective = ObjectiveConfig(kl_schedule="linear", kl_warmup="50%", autoencoder_phase="1ep")
    stated = fastvae.TrainConfig(
        epochs=10, global_batch_size=10, warmup="10%", checkpoint_every="2ep", objective=objective
    )
    for num_examples in (100, 1000):
        config, epoch = in_steps(stated, num_examples), num_examples // 10
        assert config.num_steps == 10 * epoch
        assert (config.warmup, config.checkpoint_every) == (epoch, 2 * epoch)
        assert config.objective.autoencoder_phase == epoch
        assert kl_weight_at(config.objective, epoch - 1) == 0
        assert kl_weight_at(config.objective, 6 * epoch) == 1
        assert lr_at(config, epoch, config.num_steps) == config.lr


def test_a_duration_of_an_unknown_run_is_not_a_number_of_steps() -> None:
    with pytest.raises(ValueError, match="in_steps converts"):
        steps_of("2ep")
    with pytest.raises(ValueError, match="in_steps converts"):
        _ = fastvae.TrainConfig(epochs=2).num_steps


def test_cycles_shorter_than_their_warm_up_are_refused() -> None:
    assert is_shorter("1ep", "2ep")
    assert not is_shorter("1ep", 5)  # depends on the run
    with pytest.raises(ValueError, match="kl_cycle must be at least its warm-up of 20%, got 10%"):
        ObjectiveConfig(kl_schedule="cyclical", kl_warmup="20%", kl_cycle="10%")
    config = fastvae.TrainConfig(
        epochs=1, objective=ObjectiveConfig(kl_schedule="cyclical", kl_warmup=90, kl_cycle="50%")
    )
    with pytest.raises(ValueError, match="kl_cycle must be at least its warm-up of 90, got 5"):
        in_steps(config, 1280)
