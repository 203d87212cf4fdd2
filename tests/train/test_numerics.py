"""`--train.debug-numerics` and the error of a diverged run: it names the module, the terms and the parameters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fastvae
from fastvae.train import GuardConfig, TrainingDiverged

STEP = 5  # counted from 0: the fault is at step 6 of the metrics


class Faulty(nn.Module):
    """The identity, with a fault in its forward or backward pass while enabled."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.on = kind, False

    def forward(self, x: Tensor) -> Tensor:
        if self.on and self.kind == "forward":
            return x / (x - x)
        if self.on and self.kind == "backward":
            return x + (x - x).abs().sqrt()  # its value is right, its derivative 0 * infinity
        return x


class OwnVAE(fastvae.VAE):
    def forward(self, batch: fastvae.Batch, noise_key: Tensor, *samples: int, **options: object) -> fastvae.VAETerms:
        at_fault = int(noise_key[1]) >= STEP and torch.is_grad_enabled()
        for module in self.modules():
            if isinstance(module, Faulty):
                module.on = at_fault
        return super().forward(batch, noise_key, *samples, **options)


def broken_vae(kind: str, where: str) -> OwnVAE:
    encoder = fastvae.MLPEncoder(12, 8, 2)
    parts = {"first": nn.Identity(), "fault": Faulty(kind), "last": nn.Linear(8, 12)}
    decoder = nn.Sequential()
    decoder.add_module("hidden", nn.Linear(2, 8))
    decoder.add_module("middle", nn.Sequential(parts["first"], parts["fault"]) if where == "middle" else nn.Tanh())
    decoder.add_module("output", parts["last"])
    return OwnVAE(encoder, decoder, fastvae.Gaussian(), 2)


def train(model: nn.Module, run_dir: Path, **settings: object) -> None:
    data = torch.linspace(-1, 1, 12).repeat(40, 1) * torch.linspace(0.5, 1, 40)[:, None]
    config = fastvae.TrainConfig(
        steps=40, global_batch_size=16, final_samples=1, device="cpu", checkpoint_every=None, **settings
    )
    fastvae.train(model, data, config, run_dir=run_dir)


@pytest.mark.parametrize("kind", ["forward", "backward"])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_the_first_module_that_made_a_nan_is_named(tmp_path: Path, kind: str, accumulation: int) -> None:
    with pytest.raises(TrainingDiverged) as caught:
        train(broken_vae(kind, "middle"), tmp_path, debug_numerics=True, accumulation=accumulation)
    message = str(caught.value)
    assert "at step 6, and no weight was changed" in message
    assert f"the first module to produce it was module decoder.middle.1 (Faulty) in its {kind}" in message
    assert "gradient of encoder" in message
    assert ("distortion" in message) == (kind == "forward")
    assert "lower --train.lr" in message


def test_without_debugging_the_run_stops_after_several_bad_steps_in_a_row(tmp_path: Path) -> None:
    model = broken_vae("forward", "middle")
    with pytest.raises(TrainingDiverged, match=r"at the last 4 steps, up to step 9, .*decoder\.middle\.1") as caught:
        train(model, tmp_path, guard=GuardConfig(stop_after=4))
    assert "not finite: distortion, loss, gradient of" in str(caught.value)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_nonfinite_weight_is_named_first(tmp_path: Path) -> None:
    model = broken_vae("none", "middle")
    with torch.no_grad():
        model.decoder.output.bias[3] = torch.nan
    with pytest.raises(TrainingDiverged, match=r"not finite: weight decoder\.output\.bias, .*weights"):
        train(model, tmp_path, debug_numerics=True)


def test_a_nan_of_the_models_own_forward_is_attributed_to_the_model(tmp_path: Path) -> None:
    class Scaled(OwnVAE):
        def forward(
            self, batch: fastvae.Batch, noise_key: Tensor, *samples: int, **options: object
        ) -> fastvae.VAETerms:
            terms = super().forward(batch, noise_key, *samples, **options)
            if int(noise_key[1]) >= STEP:
                terms.rate.mul_(torch.inf)
            return terms

    encoder, decoder = fastvae.MLPEncoder(12, 8, 2), fastvae.MLPDecoder(2, 8, 12)
    with pytest.raises(TrainingDiverged, match=r"the model itself \(Scaled\) in its forward; not finite: rate, loss"):
        train(Scaled(encoder, decoder, fastvae.Gaussian(), 2), tmp_path, debug_numerics=True)
