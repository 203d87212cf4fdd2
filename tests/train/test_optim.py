"""Learning rate, optimizer, moving average."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fastvae import TrainConfig
from fastvae.distributed import World, build_strategy
from fastvae.train import OptimConfig
from fastvae.train.optim import build_optimizer, lr_at
from fastvae.train.state import EMA, averaged_weights


def test_warm_up_then_half_a_cosine() -> None:
    config = OptimConfig(lr=2.0, warmup=10)
    assert lr_at(config, 0, 110) == pytest.approx(0.2)
    assert lr_at(config, 9, 110) == pytest.approx(2.0)
    assert lr_at(config, 60, 110) == pytest.approx(1.0)
    assert lr_at(config, 109, 110) == pytest.approx(1 + math.cos(math.pi * 0.99))
    assert lr_at(OptimConfig(lr=2.0, schedule="constant"), 109, 110) == 2.0


def test_weight_decay_excludes_biases() -> None:
    config = TrainConfig(weight_decay=0.1)
    layer = nn.Linear(3, 2)
    groups = build_optimizer(config, layer.named_parameters()).param_groups
    assert [(group["weight_decay"], [p.dim() for p in group["params"]]) for group in groups] == [(0.1, [2]), (0.0, [1])]


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to train"):
        build_optimizer(TrainConfig(), nn.Identity().named_parameters())


def test_ema_follows_its_definition() -> None:
    weight = torch.tensor([1.0, 2.0])
    ema = EMA(0.9, {"w": weight})
    ema.update({"w": torch.tensor([2.0, 0.0])}, ema.weight_at(1000))
    torch.testing.assert_close(ema.average["w"], torch.tensor([1.1, 1.8]))
    ema.update({"w": torch.tensor([2.0, 0.0])}, torch.tensor(ema.weight_at(0)))  # young: 9/10 of the way
    torch.testing.assert_close(ema.average["w"], torch.tensor([1.91, 0.18]))


def test_averaged_weights_are_swapped_in_and_out() -> None:
    strategy = build_strategy("single", World())
    model = nn.Linear(2, 1, bias=False)
    own = model.weight.detach().clone()
    strategy.setup(model, lambda named: torch.optim.Adam([p for _, p in named]))
    with averaged_weights(strategy, {"weight": torch.tensor([[3.0, 4.0]])}):
        assert model.weight.tolist() == [[3.0, 4.0]]
    assert torch.equal(model.weight, own)


def test_optimizer_settings_of_a_second_player_are_checked() -> None:
    with pytest.raises(ValueError, match=r"optim\.lr must be a positive number, got 0"):
        OptimConfig(lr=0.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("global_batch_size", 0),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("ema", 1.0),
        ("max_grad_norm", -1.0),
        ("warmup", -1),
        ("checkpoint_every", 0),
        ("beta1", 1.0),
    ],
)
def test_settings_out_of_range_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{field} .*got {value}"):
        TrainConfig(**{field: value})  # type: ignore[arg-type]
