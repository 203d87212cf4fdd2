"""Snapshots are complete when returned and independent of their originals; from a GPU with one synchronisation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fastvae.distributed import snapshot
from fastvae.distributed.snapshot import copy_to_host


def some_tensors(device: str = "cpu") -> dict[str, Tensor]:
    tensors = {
        "weight": torch.rand(4, 3),
        "scalar": torch.tensor(2.0),
        "empty": torch.empty(0),
        "step": torch.arange(3),
    }
    tensors["turned"] = torch.rand(2, 5).T
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def test_a_snapshot_does_not_change_with_its_originals() -> None:
    tensors = some_tensors()
    tensors["weight"].requires_grad_()
    expected = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    copies = copy_to_host(tensors)
    for tensor in tensors.values():
        tensor.detach().zero_()
    for name, copy in copies.items():
        assert torch.equal(copy, expected[name])
        assert copy.stride() == expected[name].stride()
        assert not copy.requires_grad


def test_all_copies_from_a_gpu_are_queued_before_one_synchronisation(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    empty_like, copy_ = torch.empty_like, Tensor.copy_

    def pinned(tensor: Tensor, *, pin_memory: bool, **options: Any) -> Tensor:
        calls.append("pinned memory" if pin_memory else "memory")
        return empty_like(tensor, **options)

    def copied(tensor: Tensor, other: Tensor, *, non_blocking: bool = False) -> Tensor:
        calls.append("queued" if non_blocking else "copied")
        return copy_(tensor, other)

    class Event:
        def record(self) -> None:
            calls.append("marked")

        def synchronize(self) -> None:
            calls.append("waited for")

    monkeypatch.setattr(torch, "empty_like", pinned)
    monkeypatch.setattr(Tensor, "copy_", copied)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(snapshot, "_is_on_gpu", lambda tensor: True)
    copy_to_host({"a": torch.ones(2), "b": torch.ones(3)})
    assert calls == ["pinned memory", "queued", "pinned memory", "queued", "marked", "waited for"]


@pytest.mark.gpu
def test_a_snapshot_of_a_gpu_is_pinned_and_complete() -> None:
    tensors = some_tensors("cuda")
    expected = {name: tensor.cpu() for name, tensor in tensors.items()}
    copies = copy_to_host(tensors)
    for tensor in tensors.values():
        tensor.zero_()
    for name, copy in copies.items():
        assert copy.is_pinned() or not copy.numel()
        assert torch.equal(copy, expected[name])
