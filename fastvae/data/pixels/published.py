"""Images that have a name: scikit-learn's digits, MNIST and its relatives, CIFAR-10, Frey faces."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from fastvae.data.config import DataConfig
from fastvae.data.dataset import Data, State
from fastvae.data.pixels.arrays import pixel_data
from fastvae.data.pixels.digits import load_digits
from fastvae.data.pixels.mnist import FASHION_MNIST, MNIST, PublishedSet, load_published
from fastvae.data.pixels.small_images import CIFAR10_LABELS, load_cifar10, load_frey_faces

if TYPE_CHECKING:
    from fastvae.data.kind import LoadData


def load_named_digits(config: DataConfig, seed: int, state: State) -> Data:
    """scikit-learn's digits; dequantised by default under the name ``digits``."""
    data = pixel_data(config, seed, *load_digits(), dequantize=config.name == "digits")
    return replace(data, label_names=tuple("0123456789"))


def load_published_images(published: PublishedSet, config: DataConfig, seed: int, state: State) -> Data:
    """MNIST and its relatives."""
    data = pixel_data(config, seed, *load_published(published, config.dir, download=config.download))
    return replace(data, label_names=published.label_names)


def load_photographs(config: DataConfig, seed: int, state: State) -> Data:
    """CIFAR-10, in colour, with its labels if the files have them."""
    data = pixel_data(config, seed, *load_cifar10(config.dir, test_every=config.test_every))
    return data if data.train.labels is None else replace(data, label_names=CIFAR10_LABELS)


def load_faces(config: DataConfig, seed: int, state: State) -> Data:
    """Frey faces."""
    faces = load_frey_faces(config.dir, max_bytes=config.max_bytes, test_every=config.test_every)
    return pixel_data(config, seed, *faces)


DATASETS: dict[str, LoadData] = {
    "digits": load_named_digits,
    "digits-raw": load_named_digits,
    "mnist": partial(load_published_images, MNIST),
    "fashion-mnist": partial(load_published_images, FASHION_MNIST),
    "cifar10": load_photographs,
    "frey-faces": load_faces,
}
