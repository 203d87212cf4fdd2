"""Optimizers and schedules by name, and a user's own."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import fastvae
from fastvae.distributed import World, build_strategy
from fastvae.train import Callback, OptimConfig, RunView
from fastvae.train.optim import build_optimizer, lr_at
from fastvae.train.run_dir.run_dir import RunDir
from tests import launching, runs
from tests.signals import wait_until_read

NAMES = ("adamw", "adam", "adamax", "sgd", "muon")
WORKER = Path(__file__).with_name("optimizer_worker.py")


class Stop(Callback):
    """Sends this process a stop signal at a step."""

    def __init__(self, at: int) -> None:
        self._at = at

    def on_step(self, run: RunView) -> None:
        if run.step == self._at:
            os.kill(os.getpid(), signal.SIGTERM)
            wait_until_read()


def rmsprop(parameters: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
    """Other learning rates for biases."""
    named = list(parameters)
    groups: list[dict[str, Any]] = [
        {"params": [p for _, p in named if p.dim() > 1]},
        {"params": [p for _, p in named if p.dim() == 1], "lr": 2e-3},
    ]
    return torch.optim.RMSprop(groups, lr=1e-3)


def halves(step: int, num_steps: int) -> float:
    return 1.0 if step < num_steps / 2 else 0.5


def train(run_dir: Path, callbacks: tuple[Callback, ...] = (), **options: Any) -> fastvae.Run:
    settings = {"steps": 12, "log_every": 1, "lr": 1e-3, "weight_decay": 0.1, **options.pop("settings", {})}
    config = fastvae.TrainConfig(**{**runs.SMALL, **settings})  # type: ignore[arg-type]
    return fastvae.train(runs.small_vae(), runs.digits(), config, run_dir=run_dir, callbacks=callbacks, **options)


@pytest.mark.parametrize("options", [*({"settings": {"optimizer": name}} for name in NAMES), {"optimizer": rmsprop}])
def test_a_run_learns_and_resumes_bit_for_bit(tmp_path: Path, options: dict[str, Any]) -> None:
    train(tmp_path / "whole", **options)
    losses = [record["loss_nats"] for record in runs.metrics(tmp_path / "whole", "train")]
    assert losses[-1] < losses[0] - 0.5
    assert train(tmp_path / "parts", (Stop(5),), **options).status == "preempted"
    assert train(tmp_path / "parts", (Stop(-1),), **options).status == "done"
    whole, parts = (load_file(RunDir(tmp_path / name).weights) for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_muon_updates_matrices_and_adamw_the_rest() -> None:
    torch.manual_seed(0)
    first = [nn.Parameter(torch.randn(shape)) for shape in ((3, 4), (4,), (2, 2, 1, 1))]
    second = [nn.Parameter(parameter.detach().clone()) for parameter in first]
    config = OptimConfig(optimizer="muon", lr=0.01, weight_decay=0.1)
    ours = build_optimizer(config, [(str(place), parameter) for place, parameter in enumerate(first)])
    muon = torch.optim.Muon([second[0]], lr=0.01, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    groups = [{"params": [second[2]], "weight_decay": 0.1}, {"params": [second[1]], "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=0.01)
    for step in range(4):
        if step == 2:
            ours.load_state_dict(ours.state_dict())
        for parameter, same in zip(first, second, strict=True):
            parameter.grad = torch.randn_like(parameter)
            same.grad = parameter.grad.clone()
        for optimizer in (ours, muon, adamw):
            optimizer.step()
    for parameter, same in zip(first, second, strict=True):
        torch.testing.assert_close(parameter, same, rtol=1e-6, atol=1e-7)


def test_schedules() -> None:
    def rates(schedule: Any, steps: Iterable[int], **settings: Any) -> list[float]:
        config = OptimConfig(lr=2.0, schedule=schedule, **settings)
        return [lr_at(config, step, 100) for step in steps]

    assert rates("linear", (0, 50, 99)) == pytest.approx([2.0, 1.0, 0.02])
    assert rates("linear", (4, 10, 55), warmup=10) == pytest.approx([1.0, 2.0, 1.0])
    assert rates("constant", (4, 99), warmup=10) == pytest.approx([1.0, 2.0])
    assert rates("inverse-sqrt", (4, 10, 40, 90), warmup=10) == pytest.approx([1.0, 2.0, 1.0, 2.0 / 3.0])
    assert rates("inverse-sqrt", (0, 1, 4)) == pytest.approx([2.0, 2.0, 1.0])
    assert rates("wsd", (4, 10, 79, 80, 90, 99), warmup=10, decay=20) == pytest.approx([1.0, 2.0, 2.0, 2.0, 1.0, 0.1])
    assert rates("cosine", (50,)) == pytest.approx([1 + math.cos(math.pi / 2)])


def test_a_users_schedule_and_groups_set_the_learning_rates(tmp_path: Path) -> None:
    seen: list[list[float]] = []

    def spying(parameters: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        optimizer = rmsprop(parameters)
        optimizer.register_step_pre_hook(lambda *_: seen.append([group["lr"] for group in optimizer.param_groups]))
        return optimizer

    train(tmp_path, optimizer=spying, schedule=halves)
    assert seen == [pytest.approx([1e-3, 2e-3])] * 6 + [pytest.approx([5e-4, 1e-3])] * 6
    assert [record["lr"] for record in runs.metrics(tmp_path, "train")] == pytest.approx([1e-3] * 6 + [5e-4] * 6)
    with pytest.raises(ValueError, match=r"own_schedule was 'halves', now None"):
        train(tmp_path, optimizer=spying)


def test_an_unsuitable_factory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"that of the settings, 0\.01, got 0\.001; set TrainConfig\(lr=0\.001\)"):
        train(tmp_path, optimizer=rmsprop, settings={"lr": 0.01})
    with pytest.raises(TypeError, match=r"optimizer must return a torch\.optim\.Optimizer, got list"):
        train(tmp_path / "list", optimizer=list)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strategy": "fsdp", "optimizer": "muon"}, "muon needs whole matrices, which strategy fsdp shards"),
        ({"strategy": "deepspeed", "optimizer": "sgd"}, "must be adamw or adam with strategy deepspeed, got sgd"),
        ({"capture": True, "optimizer": "muon"}, "capture requires optimizer adamw or adam, got muon"),
    ],
)
def test_what_cannot_be_sharded_or_captured_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fastvae.TrainConfig(**settings)


def test_a_users_optimizer_is_refused_by_deepspeed() -> None:
    config = fastvae.TrainConfig(strategy="deepspeed")
    options = config.strategy_options(config, own_optimizer=True)
    with pytest.raises(ValueError, match="must be adamw or adam with strategy deepspeed, got custom"):
        build_strategy("deepspeed", World(), options)


def test_two_ranks_train_like_one(tmp_path: Path) -> None:
    """Muon under DDP, and sharded SGD, Adamax and a user's optimizer."""
    launching.run([str(WORKER), str(tmp_path)], num_processes=2)
    for case in ("ddp-muon", "fsdp-sgd", "fsdp-adamax"):
        name = case.partition("-")[2]
        train(tmp_path / f"one-{name}", settings={"optimizer": name})
        one, two = (load_file(RunDir(tmp_path / run).weights) for run in (f"one-{name}", case))
        for key in one:
            torch.testing.assert_close(two[key], one[key], rtol=1e-4, atol=1e-5)
