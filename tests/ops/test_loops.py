"""The operators in the loops of Lightning Fabric and Accelerate equal a plain loop."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import fastvae

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def make() -> tuple[nn.Module, torch.optim.Optimizer, Tensor]:
    generator = torch.Generator().manual_seed(0)
    model = fastvae.VAE(encoder=_Encoder(), decoder=nn.Linear(3, 8), likelihood=fastvae.Bernoulli(), latent_dim=3)
    for p in model.parameters():
        p.data = torch.randn(p.shape, generator=generator) / 3
    return model, torch.optim.SGD(model.parameters(), lr=0.1), torch.rand(16, 8, generator=generator)


class _Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.layer(x).chunk(2, dim=-1)


def plain(steps: int = 5) -> list[float]:
    model, optimizer, data = make()
    losses = []
    for step in range(steps):
        terms = model(data, fastvae.noise_key(0, step))
        loss = (terms.rate + terms.distortion).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_lightning_fabric() -> None:
    lightning_fabric = pytest.importorskip("lightning_fabric")
    model, optimizer, data = make()
    fabric = lightning_fabric.Fabric(accelerator="cpu", devices=1)
    model, optimizer = fabric.setup(model, optimizer)
    losses = []
    for step in range(5):
        terms = model(data, fastvae.noise_key(0, step))
        loss = (terms.rate + terms.distortion).mean()
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    assert losses == plain()


def test_lightning_fabric_in_mixed_precision() -> None:
    lightning_fabric = pytest.importorskip("lightning_fabric")
    model, optimizer, data = make()
    fabric = lightning_fabric.Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    model, optimizer = fabric.setup(model, optimizer)
    terms = model(data, fastvae.noise_key(0, 0))
    fabric.backward((terms.rate + terms.distortion).mean())
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())


def test_accelerate() -> None:
    accelerate = pytest.importorskip("accelerate")
    model, optimizer, data = make()
    accelerator = accelerate.Accelerator(cpu=True)
    model, optimizer = accelerator.prepare(model, optimizer)
    losses = []
    for step in range(5):
        terms = model(data, fastvae.noise_key(0, step))
        loss = (terms.rate + terms.distortion).mean()
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    assert losses == plain()
