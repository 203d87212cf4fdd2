"""The choice of NCCL or gloo, and the abort of NCCL after a failure; the GPUs are simulated."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

import fastvae
from fastvae.distributed import World, enter_world
from fastvae.distributed import world as world_module
from fastvae.distributed.backend import Backend, choose_backend, leave_group
from fastvae.train.reports import headline
from fastvae.train.state import TrainState

NCCL, GLOO = Backend(name="nccl", reason=""), Backend(name="gloo", reason="")
GPU = torch.device("cuda", 0)


@pytest.fixture
def own_gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Simulate one visible GPU per process, as under ``srun --gpus-per-task=1``, with several processes per machine."""
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="gpu-a"))
    return monkeypatch


def store_of(*others: str) -> dist.Store:
    """Return a store with the entries of ranks 1 and higher."""
    store = dist.HashStore()
    for rank, gpu in enumerate(others, start=1):
        dist.PrefixStore("gpu", store).set(str(rank), gpu)
    return store


@pytest.mark.usefixtures("own_gpu")
@pytest.mark.parametrize(
    ("others", "name", "reason"),
    [
        (("gpu-b", "gpu-c", "gpu-d"), "nccl", "a GPU for each rank"),
        (("gpu-b", "gpu-b"), "gloo", "ranks 1 and 2 share a GPU"),
        (("gpu-a",), "gloo", "ranks 0 and 1 share a GPU"),
        (("gpu-b", "cpu"), "gloo", "rank 2 computes on a CPU"),
        ((), "nccl", "a GPU for each rank"),
    ],
)
def test_nccl_requires_a_gpu_per_rank(others: tuple[str, ...], name: str, reason: str) -> None:
    backend = choose_backend(store_of(*others), 0, len(others) + 1, GPU)
    assert backend.name == name
    assert backend.reason.startswith(reason)


def test_ranks_on_cpus_do_not_read_the_store() -> None:
    assert str(choose_backend(dist.HashStore(), 1, 3, torch.device("cpu"))) == "gloo (on CPUs)"


def calls_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    monkeypatch.setattr(dist, "destroy_process_group", lambda: calls.append("destroy"))
    monkeypatch.setattr(dist.distributed_c10d, "_abort_process_group", lambda: calls.append("abort"))
    return calls


def test_only_a_failed_nccl_group_is_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = calls_of(monkeypatch)
    for backend, failed in ((NCCL, False), (NCCL, True), (GLOO, False), (GLOO, True)):
        leave_group(backend, failed=failed)
    assert calls == ["destroy", "abort", "destroy", "destroy"]


def test_a_torch_without_abort_is_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls = calls_of(monkeypatch)
    monkeypatch.delattr(dist.distributed_c10d, "_abort_process_group")
    leave_group(NCCL, failed=True)
    assert calls == ["destroy"]
    assert f"PyTorch {torch.__version__} cannot abort NCCL" in capsys.readouterr().err


def test_a_failed_abort_is_reported_with_the_original_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise RuntimeError("Backend gloo does not support abort")

    monkeypatch.setattr(dist.distributed_c10d, "_abort_process_group", refuse)
    leave_group(NCCL, failed=True)
    assert "NCCL was not aborted (Backend gloo does not support abort)" in capsys.readouterr().err


def test_the_installed_torch_supports_abort() -> None:
    assert callable(dist.distributed_c10d._abort_process_group)


class NoRoster:
    left_s = 60.0

    def __init__(self, *arguments: Any) -> None:
        pass

    def diagnose(self, error: Exception) -> Any:
        return world_module.failure_here(0, error)

    def close(self) -> None:
        pass


@pytest.fixture
def formed(own_gpu: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments with which `enter_world` creates the process group."""
    asked: dict[str, Any] = {"calls": calls_of(own_gpu)}
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        own_gpu.setenv(name, value)
    own_gpu.setattr(world_module, "Roster", NoRoster)
    own_gpu.setattr(world_module, "meet", lambda *_: asked["store"])
    own_gpu.setattr(World, "barrier", lambda self: None)
    own_gpu.setattr(dist, "init_process_group", lambda backend, **options: asked.update(options, backend=backend))
    return asked


def test_the_nccl_group_is_bound_to_the_gpu_of_the_rank(formed: dict[str, Any]) -> None:
    formed["store"] = store_of("gpu-b")
    with enter_world("cuda") as world:
        assert world == World(world_size=2, device=GPU, backend=Backend(name="nccl", reason="a GPU for each rank"))
    assert (formed["backend"], formed["device_id"]) == ("cpu:gloo,cuda:nccl", GPU)
    assert formed["calls"] == ["destroy"]


def test_the_gloo_group_is_not_bound_to_a_gpu(formed: dict[str, Any]) -> None:
    formed["store"] = store_of("gpu-a")
    with enter_world("cuda") as world:
        assert world.backend is not None
        assert world.backend.name == "gloo"
    assert (formed["backend"], formed["device_id"]) == ("gloo", None)


def test_an_exception_in_the_block_aborts_nccl(formed: dict[str, Any]) -> None:
    formed["store"] = store_of("gpu-b")
    with pytest.raises(ValueError, match="mine"), enter_world("cuda"):
        raise ValueError("mine")
    assert formed["calls"] == ["abort"]


def test_the_headline_names_the_backend(tmp_path: Path) -> None:
    data = fastvae.data.as_data(torch.rand(20, 3))
    world = World(world_size=2, device=GPU, backend=Backend(name="gloo", reason="ranks 0 and 1 share a GPU"))
    strategy: Any = SimpleNamespace(world=world, name="ddp", model=torch.nn.Linear(2, 1))
    line = headline(strategy, data, fastvae.TrainConfig(steps=1), TrainState(0, {}, {}), tmp_path)
    assert "2 x cuda, ddp, fp32, messages over gloo (ranks 0 and 1 share a GPU)" in line
