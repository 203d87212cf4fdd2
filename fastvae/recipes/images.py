"""MNIST and Fashion-MNIST: 28 x 28 images."""

from __future__ import annotations

from dataclasses import replace

from fastvae.data import DataConfig
from fastvae.models import ModelConfig
from fastvae.objective import ObjectiveConfig
from fastvae.run import RunConfig
from fastvae.train import TrainConfig


def mnist() -> RunConfig:
    """The textbook's VAE (784-400-20-400-784, ReLU) on dynamically binarised MNIST: 20 epochs."""
    return RunConfig(
        recipe="mnist",
        model=ModelConfig(hidden_dim=(400,), latent_dim=20, likelihood="bernoulli"),
        data=DataConfig(name="mnist", binarize="dynamic"),
        train=TrainConfig(
            steps=9400, global_batch_size=128, lr=1e-3, log_every=100, eval_every=2350, checkpoint_every=2000
        ),
    )


def mnist_iwae() -> RunConfig:
    """The one-layer network of Burda et al. 2016 (arXiv 1509.00519): 784-200-200-50, tanh; 50 epochs.

    ``--train.objective.num-samples K`` trains the importance-weighted bound with K samples.
    """
    base = mnist()
    return replace(
        base,
        recipe="mnist-iwae",
        model=replace(base.model, hidden_dim=(200, 200), latent_dim=50, activation="tanh"),
        train=replace(
            base.train,
            steps=23450,
            optimizer="adam",
            lr=2e-3,
            adam_eps=1e-4,
            eval_every=4690,
            checkpoint_every=4690,
            final_samples=500,
            objective=ObjectiveConfig(num_samples=1),
        ),
    )


def fashion_mnist() -> RunConfig:
    """The textbook's VAE on dynamically binarised Fashion-MNIST."""
    base = mnist()
    return replace(base, recipe="fashion-mnist", data=replace(base.data, name="fashion-mnist"))
