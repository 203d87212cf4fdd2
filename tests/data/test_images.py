"""Own folders of images: order, channels, labels; damaged and hostile files are named."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fastvae.data.pixels.images import load_folder

LIMIT = 2**24


def draw(
    path: Path, value: int, *, size: tuple[int, int] = (6, 4), mode: str = "L"
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """An image of (width, height) with a gradient that begins at ``value``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    grey = (value + np.arange(width * height, dtype=np.uint8)).reshape(height, width)
    Image.fromarray(grey, "L").convert(mode).save(path)
    return grey


def every(folder: Path) -> torch.Tensor:
    source = load_folder(folder, max_bytes=LIMIT)
    return source[torch.arange(len(source))]


@pytest.mark.parametrize("extension", [".png", ".bmp", ".tif", ".PGM", ".gif"])
def test_grey_images_are_read_in_the_order_of_their_names(tmp_path: Path, extension: str) -> None:
    two, one = draw(tmp_path / f"b{extension}", 100), draw(tmp_path / f"a{extension}", 0)
    (tmp_path / "README.txt").write_text("not an image, and not named like one")
    images = every(tmp_path)
    assert images.shape == (2, 1 if extension != ".gif" else images.shape[1], 4, 6)
    assert np.array_equal(images[:, 0].numpy(), np.stack([one, two]))


def test_colour_anywhere_makes_all_images_colour(tmp_path: Path) -> None:
    grey = draw(tmp_path / "a.png", 7)
    colour = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    Image.fromarray(colour, "RGB").save(tmp_path / "b.png")
    images = every(tmp_path)
    assert images.shape == (2, 3, 4, 6)
    assert np.array_equal(images[0].numpy(), np.stack([grey] * 3))
    assert np.array_equal(images[1].numpy(), colour.transpose(2, 0, 1))


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("L", 1), ("LA", 1), ("P", 3), ("RGB", 3), ("RGBA", 3)])
def test_modes_of_eight_bits_are_read(tmp_path: Path, mode: str, channels: int) -> None:
    draw(tmp_path / "a.png", 0, mode=mode)
    assert every(tmp_path).shape == (1, channels, 4, 6)


def test_sub_folders_are_labels(tmp_path: Path) -> None:
    for number, name in enumerate(["shoe/1.png", "hat/2.png", "shoe/0.png", "hat/deep/3.png"]):
        draw(tmp_path / name, number)
    source = load_folder(tmp_path, max_bytes=LIMIT)
    assert source.labels is not None
    assert source.labels.tolist() == [0, 0, 1, 1]  # hat, hat, shoe, shoe
    assert source[torch.arange(4)][:, 0, 0, 0].tolist() == [1, 3, 2, 0]
    draw(tmp_path / "loose.png", 9)
    assert load_folder(tmp_path, max_bytes=LIMIT).labels is None


def test_an_image_of_another_size_is_named(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", 0)
    draw(tmp_path / "b.png", 0, size=(5, 4))
    with pytest.raises(
        ValueError, match=r"b.png: all images must have one size; this one is 5 x 4 pixels, a.png is 6 x 4"
    ):
        every(tmp_path)


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no images; looked for .png"):
        every(tmp_path)


@pytest.mark.parametrize("keep", [0, 1, 20, 40, -100])
@pytest.mark.parametrize("extension", [".png", ".jpg"])
def test_a_truncated_image_is_named(tmp_path: Path, extension: str, keep: int) -> None:
    path = tmp_path / f"a{extension}"
    draw(path, 0, size=(64, 64))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"not an image that Pillow reads|truncated or damaged") as caught:
        every(tmp_path)
    assert str(path) in str(caught.value)


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("<html>")
    with pytest.raises(ValueError, match=r"a.png: not an image that Pillow reads"):
        every(tmp_path)


@pytest.mark.parametrize(("width", "height"), [(5000, 5000), (10_000, 10_000), (60_000, 60_000)])
def test_huge_dimensions_are_refused_before_they_are_decoded(tmp_path: Path, width: int, height: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(
        ValueError, match=r"a.png: (not an image that Pillow reads .*exceeds limit|.*more than the limit)"
    ):
        every(tmp_path)


def test_more_pixels_than_the_limit_are_refused(tmp_path: Path) -> None:
    for number in range(3):
        draw(tmp_path / f"{number}.png", number)
    assert len(load_folder(tmp_path, max_bytes=72)) == 3
    with pytest.raises(ValueError, match="3 images of 6 x 4 pixels take more than the limit"):
        load_folder(tmp_path, max_bytes=71)


def test_deeper_than_eight_bits_is_refused_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 6), 40_000, dtype=np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a.png: must have 8 bits per channel, got Pillow's mode 'I;16'"):
        every(tmp_path)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), extension=st.sampled_from([".png", ".jpg", ".bmp", ".gif", ".tif", ".webp", ".ppm"]))
def test_no_change_to_a_file_does_anything_but_parse_or_raise(
    tmp_path: Path, extension: str, data: st.DataObject
) -> None:
    for old in tmp_path.iterdir():
        old.unlink()
    path = tmp_path / f"a{extension}"
    draw(path, 0)
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(whole))
    try:
        assert len(every(tmp_path)) == 1
    except ValueError as error:
        assert str(tmp_path) in str(error)  # noqa: PT017 (both outcomes are right)
