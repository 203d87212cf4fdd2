"""One process: steps, clipping, and gradients that are not finite."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fastvae
from fastvae.distributed import DDPConfig, World, build_strategy, world_from_environment
from fastvae.distributed.replicas import checksum


@pytest.fixture
def strategy():
    chosen = build_strategy("auto", World())
    chosen.setup(nn.Linear(2, 1, bias=False), lambda named: torch.optim.Adam([p for _, p in named], lr=0.1, fused=True))
    return chosen


def test_auto_is_single_for_one_process(strategy) -> None:
    assert strategy.name == "single"


def test_a_step_reports_the_norm_before_clipping(strategy) -> None:
    strategy.backward((strategy.module.weight * torch.tensor([[3.0, 4.0]])).sum())
    report = strategy.step(max_grad_norm=1.0)
    assert report.grad_norm.item() == pytest.approx(5.0)
    assert not report.skipped


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("max_grad_norm", [None, 1.0])
def test_a_nonfinite_gradient_changes_nothing(strategy, bad: float, max_grad_norm: float | None) -> None:
    strategy.backward(strategy.module.weight.sum())
    strategy.step(None)  # creates Adam's moments, which must not change
    weight = strategy.module.weight.detach().clone()
    moments = {k: v.clone() for k, v in strategy.optimizer.state[strategy.module.weight].items()}
    strategy.backward((strategy.module.weight * bad).sum())
    report = strategy.step(max_grad_norm)
    assert report.skipped
    assert not report.finite
    assert torch.equal(strategy.module.weight, weight)
    for name, moment in strategy.optimizer.state[strategy.module.weight].items():
        assert torch.equal(moment, moments[name]), name
    strategy.backward(strategy.module.weight.sum())
    assert not strategy.step(None).skipped
    assert not torch.equal(strategy.module.weight, weight)


def test_the_world_is_read_from_torchruns_environment() -> None:
    world = world_from_environment(
        "cpu", {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    )
    assert (world.rank, world.local_rank, world.world_size, world.is_main) == (3, 1, 4, False)
    assert world_from_environment("cpu", {}).is_main


def test_invalid_settings_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="RANK must be a whole number, got 'x'"):
        world_from_environment("cpu", {"RANK": "x"})
    with pytest.raises(ValueError, match="strategy must be one of auto, single, ddp, fsdp, deepspeed, got 'horovod'"):
        build_strategy("horovod", World())
    with pytest.raises(ValueError, match="single is for one process, got world size 2"):
        build_strategy("single", World(world_size=2))
    for name in ("ddp", "fsdp"):
        with pytest.raises(ValueError, match=f"strategy {name} requires two or more processes"):
            build_strategy(name, World())
    with pytest.raises(ValueError, match=r"train\.ddp\.bucket_mib must be positive, got 0"):
        DDPConfig(bucket_mib=0)
    with pytest.raises(ValueError, match=r"train\.ddp\.static_graph requires accumulation 1"):
        fastvae.TrainConfig(accumulation=2, ddp=DDPConfig(static_graph=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("shape", [(), (7,), (3, 5, 11)])
def test_a_checksum_computed_in_chunks_equals_that_of_the_whole(
    dtype: torch.dtype, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    tensor = torch.randint(-(2**40), 2**40, shape).to(dtype)
    places = torch.arange(tensor.numel() * tensor.element_size()) * 2 + 1
    whole = (tensor.flatten().view(torch.uint8).to(torch.int64) * places).sum()
    monkeypatch.setattr(
        "fastvae.distributed.replicas._CHECKSUM_BYTES", 10
    )  # smaller than the tensor's size, and not a divisor of it
    assert torch.equal(checksum(tensor), whole)
    if tensor.dim() > 1:
        assert torch.equal(checksum(tensor.mT), checksum(tensor.mT.contiguous()))
