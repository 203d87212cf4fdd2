"""Arguments of `fastvae.train` that are not what it takes are refused with the remedy, before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fastvae
from fastvae.distributions import Prior
from fastvae.train.task import ELBOTask, StepResult
from tests import runs

DATA = torch.rand(40, 64)


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("vae",), {}, "model must be a torch.nn.Module, got str 'vae'"),
        ((None,), {}, "model must be a torch.nn.Module, got NoneType"),
        ((fastvae.VAE,), {}, "model must be a torch.nn.Module, got the class VAE; give an object"),
        ((), {"config": {"steps": 3}}, "config must be a fastvae.TrainConfig, got dict"),
        ((), {"task": "elbo"}, "task must be an object .* got str 'elbo'; .*TrainConfig"),
        ((), {"task": ELBOTask}, "task must be an object .* got the class ELBOTask"),
    ],
)
def test_a_wrong_type_is_refused(tmp_path: Path, arguments: Any, options: dict[str, Any], words: str) -> None:
    model = arguments[0] if arguments else runs.small_vae()
    with pytest.raises(TypeError, match=words):
        fastvae.train(model, DATA, **options, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_likelihood_must_be_a_module() -> None:
    for wrong in ("gaussian", fastvae.Gaussian):
        with pytest.raises(TypeError, match=r"likelihood must be a module, such as fastvae.Gaussian\(\), got"):
            fastvae.VAE(fastvae.MLPEncoder(6, 4, 2), fastvae.MLPDecoder(2, 4, 6), wrong)  # type: ignore[arg-type]


class WideSums(ELBOTask):
    """A step whose sums have a number more than the task has columns."""

    def step(self, *arguments: Any) -> StepResult:
        result = super().step(*arguments)
        return StepResult(reports=result.reports, sums=torch.zeros(len(self.columns) + 1))


def test_sums_must_fit_the_columns(tmp_path: Path) -> None:
    model = runs.small_vae()
    config = fastvae.TrainConfig(steps=2, global_batch_size=8)
    with pytest.raises(ValueError, match=r"a number for each of its 5 columns, got shape \[6\]"):
        fastvae.train(model, images(), config, task=WideSums(model), run_dir=tmp_path)


def images() -> Tensor:
    return torch.rand(40, 1, 8, 8)


class WrongPrior(Prior):
    """A prior whose samples have another shape than the latents."""

    def log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * z.square().sum(-1)

    def rsample(self, num: int, noise_key: Tensor) -> Tensor:
        return torch.zeros(num, 3)


def test_a_priors_samples_are_checked_before_the_first_step(tmp_path: Path) -> None:
    model = fastvae.VAE(
        fastvae.MLPEncoder(64, 4, 2), fastvae.MLPDecoder(2, 4, 64), fastvae.Gaussian(), prior=WrongPrior(2)
    )
    config = fastvae.TrainConfig(steps=2, global_batch_size=8)
    with pytest.raises(ValueError, match=r"rsample of the prior WrongPrior must return latents \[2, 2\].*\[2, 3\]"):
        fastvae.train(model, DATA, config, run_dir=tmp_path)


def test_a_prior_without_samples_cannot_be_made() -> None:
    class Silent(Prior):
        def log_prob(self, z: Tensor) -> Tensor:
            return z.sum(-1)

    with pytest.raises(TypeError, match="rsample"):
        Silent(2)  # type: ignore[abstract]
