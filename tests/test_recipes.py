"""Recipes reach their known results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch.nn import functional as F

from fastvae.recipes import RECIPES, find_recipe
from tests.faults.program import Program

PPCA_NATS, PPCA_VARIANCE = 16.860, 0.02269  # maximum-likelihood probabilistic PCA on the same split, 10 dimensions


# Two processes give the results of one, see tests/distributed; here this is checked on a whole recipe.
@pytest.mark.parametrize("num_processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_linear_vae_reaches_probabilistic_pca(tmp_path: Path, program: Program, num_processes: int) -> None:
    words = ("train", "digits-linear", f"--run-dir={tmp_path / 'run'}")
    program.run_words(*words, output=tmp_path / "output", ranks=num_processes)
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert abs(evaluation["elbo_nats"] - PPCA_NATS) <= 0.3
    raw = safetensors.torch.load_file(tmp_path / "run" / "model.safetensors")["likelihood.raw_logvar"]
    assert torch.exp(F.softplus(raw) - 10).item() == pytest.approx(PPCA_VARIANCE, rel=0.02)
    bound, noise = -evaluation["nll_nats"], 3 * evaluation["nll_standard_error_nats"]
    assert evaluation["elbo_nats"] <= bound <= PPCA_NATS + noise
    assert "bits_per_dim" not in evaluation  # raw digits are treated as continuous: a density has no bits


def test_digits_has_active_latents(tmp_path: Path, program: Program) -> None:
    options = ["--train.steps=1500", "--train.objective.kl-warmup=1000", "--train.final-samples=20"]
    program.run_words("train", "digits", f"--run-dir={tmp_path / 'run'}", *options, output=tmp_path / "output")
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert evaluation["active_units"] >= 8
    assert evaluation["bits_per_dim"] < 3.3  # uniform pixels have log2(17) = 4.09 bits


def test_every_recipe_is_complete_and_named() -> None:
    for name in RECIPES:
        config = find_recipe(name)
        assert config.recipe == name
        assert config.directory == Path("runs") / name
