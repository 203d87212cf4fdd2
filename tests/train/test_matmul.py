"""The library that computes float32 matrix products on the CPU."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch
from torch import nn

from fastvae.train import matmul
from fastvae.train.matmul import matmul_library

CPU = torch.device("cpu")
SETTINGS = torch.backends.mkldnn.matmul


@pytest.fixture
def idle_avx512(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "_has_idle_avx512", lambda: True)


@pytest.mark.usefixtures("idle_avx512")
def test_large_products_use_onednn_and_the_setting_is_restored() -> None:
    before = SETTINGS.fp32_precision
    with suppress(KeyError), matmul_library("auto", nn.Linear(784, 400), 128, CPU) as library:
        assert (library, SETTINGS.fp32_precision) == ("oneDNN", "bf16")
        raise KeyError  # also after an error
    assert SETTINGS.fp32_precision == before


@pytest.mark.usefixtures("idle_avx512")
@pytest.mark.parametrize(
    ("choice", "width", "device"), [("default", 784, "cpu"), ("auto", 8, "cpu"), ("auto", 784, "meta")]
)
def test_the_setting_is_unchanged_for_small_products_or_on_request(choice: str, width: int, device: str) -> None:
    before = SETTINGS.fp32_precision
    with matmul_library(choice, nn.Linear(width, 400), 128, torch.device(device)) as library:  # type: ignore[arg-type]
        assert library == "PyTorch's choice"
        assert SETTINGS.fp32_precision == before


@pytest.mark.usefixtures("idle_avx512")
def test_a_users_setting_is_kept() -> None:
    before = SETTINGS.fp32_precision
    SETTINGS.fp32_precision = "ieee"
    try:
        with matmul_library("auto", nn.Linear(784, 400), 128, CPU) as library:
            assert (library, SETTINGS.fp32_precision) == ("PyTorch's choice", "ieee")
    finally:
        SETTINGS.fp32_precision = before


def test_products_are_computed_in_float32() -> None:
    """On the machine that runs the test: the error of bfloat16 would be a thousand times the bound."""
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(shape, generator=generator) for shape in ((128, 784), (400, 784)))
    exact = x.double() @ weight.double().T
    with matmul_library("auto", nn.Linear(784, 400), 128, CPU):
        product = x @ weight.T
    error = (product.double() - exact).abs().max() / exact.abs().max()
    assert error < 2e-6
