"""The training loops that bench_train_step.py compares: each runs some steps and returns its images per second."""

from __future__ import annotations

import importlib.util
import io
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from train_step_networks import LATENT_DIM, Network

import fastvae
from fastvae.objective import ObjectiveConfig
from fastvae.train import TrainConfig
from fastvae.train.matmul import MatmulLibrary, matmul_library

BATCH = 128
Contender = Callable[[int], float]  # steps -> images per second


def our_trainer(network: Network, images: Tensor, *, compiled: bool, device: str = "cpu", **settings: Any) -> Contender:
    """``fastvae.train``; the rate is read from its log, which excludes the set-up in the first step."""
    data = fastvae.data.as_data((images, images[:64]), name="images")

    def run(steps: int) -> float:
        config = TrainConfig(
            steps=steps + 1,
            log_every=steps + 1,  # the first step, which includes set-up and compilation, is logged separately
            global_batch_size=BATCH,
            compile=compiled,
            device=device,
            final_samples=1,
            checkpoint_every=None,
            objective=ObjectiveConfig(num_samples=network.num_samples),
            **settings,
        )
        with tempfile.TemporaryDirectory() as folder:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                fastvae.train(network.ours(), data, config, run_dir=folder)
            lines = [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]
        return [line["examples_per_s"] for line in lines if line["kind"] == "train"][-1]

    return run


def eager_loop(network: Network, images: Tensor, *, compiled: bool, device: str = "cpu") -> Contender:
    """A minimal loop in eager PyTorch: float pixels in memory, batches by indexing, and fused Adam."""
    model = network.eager().to(device)
    pixels = images.to(device).float().div_(255)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    loss_of = torch.compile(model) if compiled else model

    def run(steps: int) -> float:
        step(loss_of, optimizer, pixels[:BATCH])
        order = torch.randint(len(pixels), (steps, BATCH), device=device)
        return _rate(steps, device, lambda i: step(loss_of, optimizer, pixels[order[i]]))

    return run


def step(loss_of: Callable[[Tensor], Tensor], optimizer: torch.optim.Optimizer, x: Tensor) -> None:
    """One step of the usual training loop."""
    optimizer.zero_grad()
    loss_of(x).backward()
    optimizer.step()


class ImageDataset(Dataset[Tensor]):
    """Images that are converted one by one to float tensors, as torchvision's MNIST with ToTensor does."""

    def __init__(self, images: Tensor) -> None:
        self.images = images[:, 0].numpy()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        picture = Image.fromarray(self.images[index])
        return torch.from_numpy(np.array(picture, np.uint8)).unsqueeze(0).to(torch.float32).div(255)


def data_loader_loop(network: Network, images: Tensor) -> Contender:
    """A typical training script: Dataset, transform, DataLoader, Adam, and ``loss.item()`` in every step."""
    model = network.eager()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    batches = _endless(DataLoader(ImageDataset(images), batch_size=BATCH, shuffle=True, drop_last=True))
    losses = []

    def one(_: int) -> None:
        optimizer.zero_grad()
        loss = model(next(batches))
        loss.backward()
        losses.append(loss.item())
        optimizer.step()

    return lambda steps: _rate(steps, "cpu", one)


def _endless(loader: DataLoader[Tensor]) -> Iterator[Tensor]:
    while True:
        yield from loader


def has_pythae() -> bool:
    """Whether pythae (github.com/clementchadebec/benchmark_VAE), which is not a dependency, is installed."""
    return importlib.util.find_spec("pythae") is not None


def pythae_trainer(images: Tensor, steps: int) -> Contender:
    """One epoch of pythae's trainer with the textbook network."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    class Encoder(BaseEncoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.Sequential(nn.Linear(784, 400), nn.ReLU())
            self.mu, self.logvar = nn.Linear(400, LATENT_DIM), nn.Linear(400, LATENT_DIM)

        def forward(self, x: Tensor) -> Any:
            hidden = self.hidden(x.reshape(-1, 784))
            return ModelOutput(embedding=self.mu(hidden), log_covariance=self.logvar(hidden))

    class Decoder(BaseDecoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            layers = [nn.Linear(LATENT_DIM, 400), nn.ReLU(), nn.Linear(400, 784), nn.Sigmoid()]
            self.layers = nn.Sequential(*layers)

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.layers(z).reshape(-1, 1, 28, 28))

    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT_DIM, reconstruction_loss="bce")
    pixels = images[: steps * BATCH].float() / 255
    settings = BaseTrainerConfig(
        output_dir=tempfile.mkdtemp(prefix="pythae-"), per_device_train_batch_size=BATCH, no_cuda=True
    )
    model = VAE(config, encoder=Encoder(), decoder=Decoder())
    trainer = BaseTrainer(model, BaseDataset(pixels, torch.zeros(len(pixels))), training_config=settings)
    trainer.prepare_training()

    def run(steps: int) -> float:
        start = time.perf_counter()
        with redirect_stderr(io.StringIO()):  # hides its progress bar
            trainer.train_step(epoch=1)
        return len(pixels) / (time.perf_counter() - start)

    return run


def floor(network: Network, images: Tensor, *, device: str = "cpu", library: MatmulLibrary = "default") -> Contender:
    """The network's matrix products and convolutions alone, forward and backward, with preallocated outputs.

    ``library`` is that of ``TrainConfig.matmul``: "default" for PyTorch's default, "auto" for our trainer's choice.
    """
    products: list[Callable[[], object]] = []
    model = network.eager().to(device)

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x, dy = inputs[0].detach(), torch.randn_like(output)
        products.extend(_products(layer, x, dy, needs_dx=bool(inputs[0].requires_grad)))

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    model(images[:BATCH].to(device).float() / 255)
    for hook in hooks:
        hook.remove()

    @torch.no_grad()
    def one(_: int) -> None:
        for product in products:
            product()

    def run(steps: int) -> float:
        with matmul_library(library, model, BATCH, torch.device(device)):
            return _rate(steps, device, one)

    return run


def _products(layer: Any, x: Tensor, dy: Tensor, *, needs_dx: bool) -> list[Callable[[], object]]:
    weight = layer.weight.detach()
    if isinstance(layer, nn.Linear):
        y, dw, dx = torch.empty_like(dy), torch.empty_like(weight), torch.empty_like(x)
        calls = [lambda: torch.mm(x, weight.t(), out=y), lambda: torch.mm(dy.t(), x, out=dw)]
        return [*calls, lambda: torch.mm(dy, weight, out=dx)] if needs_dx else calls
    transposed = isinstance(layer, nn.ConvTranspose2d)
    geometry = (layer.stride, layer.padding, layer.dilation, transposed, layer.output_padding, layer.groups)
    mask = [needs_dx, True, False]
    return [
        lambda: torch.ops.aten.convolution(x, weight, None, *geometry),
        lambda: torch.ops.aten.convolution_backward(dy, x, weight, None, *geometry, mask),
    ]


def _rate(steps: int, device: str, one: Callable[[int], None]) -> float:
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    synchronize()
    start = time.perf_counter()
    for i in range(steps):
        one(i)
    synchronize()
    return steps * BATCH / (time.perf_counter() - start)
