"""Random transformations of training images: each is drawn from the seed, the epoch and the example only."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from fastvae.data import DataConfig, Draws, build_data
from fastvae.data.pixels.augment import Augmentation
from fastvae.data.pixels.config import Augment, ImagesConfig
from fastvae.data.pixels.images import load_folder

NAMES: tuple[Augment, ...] = ("random-crop", "random-resized-crop", "flip", "colour-jitter")
PAIRS = [pair for pair in combinations(NAMES, 2) if pair != ("random-crop", "random-resized-crop")]


def augmentation(*names: Augment, size: int | None = 8) -> Augmentation:
    return Augmentation(ImagesConfig(size=size, augment=names))


def ramp(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, x * 0], axis=2).astype(np.uint8))


def made(augment: Augmentation, image: Image.Image, *, epoch: int = 0, index: int = 0) -> np.ndarray[Any, Any]:
    return np.asarray(augment.draw_one(3, epoch, index)(image, "white")).astype(int)


@pytest.mark.parametrize("pair", PAIRS)
def test_a_transformation_does_not_change_the_draws_of_another(pair: tuple[Augment, Augment]) -> None:
    image = ramp(30, 20)
    first, second = pair
    for index in range(6):
        alone = np.asarray(augmentation(first).draw_one(3, 1, index)(image, "white")).astype(int)
        both = made(augmentation(*pair), image, epoch=1, index=index)
        if second == "flip":
            assert np.array_equal(both, alone[:, ::-1] if is_flipped(1, index) else alone)
        else:  # every colour changes by little: the crop is the same
            assert np.abs(alone - both).max() < 60


def is_flipped(epoch: int, index: int) -> bool:
    return bool(made(augmentation("flip", size=None), ramp(4, 2), epoch=epoch, index=index)[0, 0, 0] > 0)


def test_half_of_the_images_are_flipped_anew_in_every_epoch() -> None:
    flipped = np.array([[is_flipped(epoch, index) for index in range(200)] for epoch in range(2)])
    assert 70 < flipped[0].sum() < 130
    assert 70 < (flipped[0] != flipped[1]).sum() < 130


@given(
    width=st.integers(1, 80),
    height=st.integers(1, 80),
    index=st.integers(0, 2**40),
    name=st.sampled_from(["random-crop", "random-resized-crop"]),
)
def test_a_crop_is_inside_the_image_and_not_distorted(width: int, height: int, index: int, name: Augment) -> None:
    drawn = augmentation(name).draw_one(1, 0, index)
    left, top, right, bottom = (drawn._square if name == "random-crop" else drawn._resized)(width, height)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert 0.74 < (right - left) / (bottom - top) < 1.34
    assert drawn(ramp(width, height), "white").size == (8, 8)


def test_random_crops_cover_the_image() -> None:
    lefts = {round(augmentation("random-crop").draw_one(0, 0, index)._square(40, 10)[0]) for index in range(300)}
    assert lefts == set(range(31))


def test_grey_images_keep_one_channel() -> None:
    image = ramp(12, 12).convert("L")
    assert made(augmentation(*NAMES[1:]), image).shape == (8, 8)


def test_training_images_are_new_in_every_epoch_and_the_same_for_every_reader(tmp_path: Path) -> None:
    for index in range(4):
        ramp(20 + index, 15).save(tmp_path / f"{index}.png")
    source = load_folder(tmp_path, max_bytes=2**30, config=ImagesConfig(size=8, augment=("random-crop", "flip")))

    def drawn(indices: list[int], epochs: list[int], seed: int = 0) -> Tensor:
        found = source.drawn(torch.tensor(indices), Draws(seed=seed, visits=torch.tensor(epochs)))
        assert isinstance(found, Tensor)
        return found

    first = drawn([0, 1, 2, 3], [0, 0, 0, 0])
    assert torch.equal(drawn([2, 0], [0, 0]), first[[2, 0]])
    assert not torch.equal(drawn([0, 1, 2, 3], [1, 1, 1, 1]), first)
    assert not torch.equal(drawn([0, 1, 2, 3], [0, 0, 0, 0], seed=1), first)
    assert source.notes[0].endswith("each when it is needed (augment random-crop flip)")


def test_arrays_are_not_augmented_silently(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((9, 1, 8, 8), np.uint8) + np.arange(9, dtype=np.uint8)[:, None, None, None])
    config = DataConfig(name="file", path=tmp_path / "x.npy", images=ImagesConfig(augment=("flip",)))
    with pytest.raises(ValueError, match=r"augment transforms images in folders .*, and these are arrays"):
        build_data(config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augment": ("rotate",)}, "augment must be one of random-crop, .*got 'rotate'"),
        ({"augment": ("flip", "flip")}, "must have each transformation once.*got flip flip"),
        ({"augment": ("random-crop", "random-resized-crop"), "size": 8}, "one kind of crop"),
        ({"augment": ("random-crop",)}, r"random-crop crops images to a size \(--data.images.size\).*got size=None"),
        ({"augment": ("random-crop",), "size": 8, "fit": "pad"}, "got size=8 and fit=pad"),
        ({"min_crop_area": 0.0}, r"min_crop_area must be in \(0, 1\], got 0.0"),
        ({"jitter": 1.0}, r"jitter must be in \[0, 1\), got 1.0"),
        ({"filter": "nearest"}, "filter must be one of box, bilinear, bicubic, lanczos"),
    ],
)
def test_invalid_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImagesConfig(**options)
