"""Images: MNIST and Fashion-MNIST of 28 x 28, CIFAR-10 of 32 x 32 in colour, Frey faces of 28 x 20, your own."""

from __future__ import annotations

from dataclasses import replace

from fastvae.data import DataConfig, ImagesConfig
from fastvae.models import ModelConfig
from fastvae.nn import ConvConfig
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
            epochs=20, global_batch_size=128, lr=1e-3, log_every=100, eval_every="5ep", checkpoint_every="5ep"
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
            epochs=50,
            optimizer="adam",
            lr=2e-3,
            adam_eps=1e-4,
            eval_every="10ep",
            checkpoint_every="10ep",
            final_samples=500,
            objective=ObjectiveConfig(num_samples=1),
        ),
    )


def mnist_iwae_2l() -> RunConfig:
    """The two-layer network of Burda et al. 2016: q 784-200-200-z100, 100-100-100-z50, tanh; 50 epochs."""
    base = mnist_iwae()
    return replace(base, recipe="mnist-iwae-2l", model=replace(base.model, family="hierarchical", latent_dim=100))


def mnist_class() -> RunConfig:
    """A VAE conditioned on the digit, 784-500-500-5: `fastvae sample RUN --label 3`; 20 epochs.

    With few latent dimensions z does not encode the label again, and a prior sample fits every label.
    """
    base = mnist()
    return replace(
        base,
        recipe="mnist-class",
        model=replace(base.model, hidden_dim=(500, 500), latent_dim=5),
        data=replace(base.data, condition=("label",)),
        train=replace(base.train, lr=2e-3),
    )


def mnist_conv() -> RunConfig:
    """A residual convolutional VAE on dynamically binarised MNIST: 10 epochs, about 15 minutes on two cores."""
    base = mnist()
    return replace(
        base,
        recipe="mnist-conv",
        model=ModelConfig(network="conv", conv=ConvConfig(channels=(32, 64)), latent_dim=32),
        train=replace(base.train, epochs=10, warmup="4%", max_grad_norm=100.0, eval_every=None),
    )


def fashion_mnist_conv() -> RunConfig:
    """The same network on the 8-bit pixels of Fashion-MNIST, with a discretised logistic likelihood."""
    base = mnist_conv()
    return replace(
        base,
        recipe="fashion-mnist-conv",
        model=replace(base.model, likelihood="discretized-logistic"),
        data=DataConfig(name="fashion-mnist"),
        train=replace(base.train, max_grad_norm=1000.0),
    )


def cifar10() -> RunConfig:
    """CIFAR-10 in colour, 8-bit pixels with a discretised logistic likelihood; bits per dimension."""
    base = fashion_mnist_conv()
    return replace(
        base,
        recipe="cifar10",
        model=replace(base.model, conv=ConvConfig(channels=(48, 96)), latent_dim=128),
        data=DataConfig(name="cifar10"),
    )


def images() -> RunConfig:
    """Your own photographs: ``--data.path FOLDER``; each becomes 64 x 64 pixels (``--data.images.size``, ``.fit``)."""
    base = fashion_mnist_conv()
    return replace(
        base,
        recipe="images",
        model=replace(base.model, conv=ConvConfig(channels=(32, 64, 128)), latent_dim=64),
        data=DataConfig(name="pixels", images=ImagesConfig(size=64)),
        train=replace(base.train, epochs=100, global_batch_size=64, checkpoint_every=1000),
    )


def frey_faces() -> RunConfig:
    """1965 frames of one face, 28 x 20 pixels of 8 bits: minutes on two cores."""
    base = fashion_mnist_conv()
    return replace(
        base,
        recipe="frey-faces",
        model=replace(base.model, conv=ConvConfig(channels=(16, 32)), latent_dim=10),
        data=DataConfig(name="frey-faces"),
        train=replace(base.train, epochs=110, global_batch_size=64),
    )


def fashion_mnist() -> RunConfig:
    """The textbook's VAE on dynamically binarised Fashion-MNIST."""
    base = mnist()
    return replace(base, recipe="fashion-mnist", data=replace(base.data, name="fashion-mnist"))
