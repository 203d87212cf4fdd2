"""Users' folders of images: order, channels, labels; errors name damaged and hostile files."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fastvae.data.pixels.config import Fit, ImagesConfig
from fastvae.data.pixels.images import load_folder

LIMIT = 2**24


def draw(
    path: Path, value: int, *, size: tuple[int, int] = (6, 4), mode: str = "L"
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Write an image of (width, height) with a gradient that starts at ``value``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    grey = (value + np.arange(width * height, dtype=np.uint8)).reshape(height, width)
    Image.fromarray(grey, "L").convert(mode).save(path)
    return grey


def every(folder: Path) -> torch.Tensor:
    source = load_folder(folder, max_bytes=LIMIT)
    return source[torch.arange(len(source))]


@pytest.mark.parametrize("extension", [".png", ".bmp", ".tif", ".PGM", ".gif"])
def test_grey_images_are_read_in_name_order(tmp_path: Path, extension: str) -> None:
    two, one = draw(tmp_path / f"b{extension}", 100), draw(tmp_path / f"a{extension}", 0)
    (tmp_path / "README.txt").write_text("not an image, and not named like one")
    images = every(tmp_path)
    assert images.shape == (2, 1 if extension != ".gif" else images.shape[1], 4, 6)
    assert np.array_equal(images[:, 0].numpy(), np.stack([one, two]))


def test_one_colour_image_makes_all_images_colour(tmp_path: Path) -> None:
    grey = draw(tmp_path / "a.png", 7)
    colour = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    Image.fromarray(colour, "RGB").save(tmp_path / "b.png")
    images = every(tmp_path)
    assert images.shape == (2, 3, 4, 6)
    assert np.array_equal(images[0].numpy(), np.stack([grey] * 3))
    assert np.array_equal(images[1].numpy(), colour.transpose(2, 0, 1))


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("L", 1), ("LA", 1), ("P", 3), ("RGB", 3), ("RGBA", 3)])
def test_all_modes_with_eight_bits_are_read(tmp_path: Path, mode: str, channels: int) -> None:
    draw(tmp_path / "a.png", 0, mode=mode)
    assert every(tmp_path).shape == (1, channels, 4, 6)


def test_subfolders_are_labels(tmp_path: Path) -> None:
    for number, name in enumerate(["shoe/1.png", "hat/2.png", "shoe/0.png", "hat/deep/3.png"]):
        draw(tmp_path / name, number)
    source = load_folder(tmp_path, max_bytes=LIMIT)
    assert source.labels is not None
    assert source.labels.tolist() == [0, 0, 1, 1]  # hat, hat, shoe, shoe
    assert source[torch.arange(4)][:, 0, 0, 0].tolist() == [1, 3, 2, 0]
    draw(tmp_path / "loose.png", 9)
    assert load_folder(tmp_path, max_bytes=LIMIT).labels is None


def test_an_image_of_another_size_is_refused(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", 0)
    draw(tmp_path / "b.png", 0, size=(5, 4))
    with pytest.raises(
        ValueError, match=r"b.png: all images must have one size; this one is 5 x 4 pixels, a.png is 6 x 4"
    ):
        every(tmp_path)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"contains no images; searched for .png"):
        every(tmp_path)


@pytest.mark.parametrize("keep", [0, 1, 20, 40, -100])
@pytest.mark.parametrize("extension", [".png", ".jpg"])
def test_a_truncated_image_is_refused(tmp_path: Path, extension: str, keep: int) -> None:
    path = tmp_path / f"a{extension}"
    draw(path, 0, size=(64, 64))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"not an image that Pillow reads|truncated or damaged") as caught:
        every(tmp_path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_an_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("<html>")
    with pytest.raises(ValueError, match=r"a.png: not an image that Pillow reads"):
        every(tmp_path)


@pytest.mark.parametrize(("width", "height"), [(5000, 5000), (10_000, 10_000), (60_000, 60_000)])
def test_huge_dimensions_are_refused_before_they_are_decoded(tmp_path: Path, width: int, height: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(ValueError, match=r"a.png: (not an image that Pillow reads .*exceeds limit|.*exceed the limit)"):
        every(tmp_path)


def test_more_pixels_than_the_limit_are_decoded_when_they_are_needed(tmp_path: Path) -> None:
    for number in range(3):
        draw(tmp_path / f"{number}.png", number)
    in_memory, on_demand = (load_folder(tmp_path, max_bytes=limit) for limit in (72, 71))
    assert (in_memory.in_memory, on_demand.in_memory) == (True, False)
    assert on_demand.notes[0].endswith("3 images read (3 .png); each when it is needed (more than --data.max-gib)")
    order = torch.tensor([2, 0, 1])
    assert torch.equal(in_memory[order], on_demand[order])


def test_more_than_eight_bits_are_refused_and_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 6), 40_000, dtype=np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(
        ValueError, match=r"a.png: must have 8 bits per channel, got .*Pillow's mode 'I;16'.*; convert it to 8 bits"
    ):
        every(tmp_path)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), extension=st.sampled_from([".png", ".jpg", ".bmp", ".gif", ".tif", ".webp", ".ppm"]))
def test_a_damaged_file_is_parsed_or_refused(tmp_path: Path, extension: str, data: st.DataObject) -> None:
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


def test_photographs_of_different_sizes_are_cropped_to_squares(tmp_path: Path) -> None:
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, 20:60] = 200  # the centre, which a square crop contains
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels.transpose(1, 0, 2)).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"--data\.images\.size 64"):
        load_folder(tmp_path, max_bytes=LIMIT)
    read = {
        fit: load_folder(tmp_path, max_bytes=LIMIT, config=ImagesConfig(size=16, fit=fit, background="#ff0000"))
        for fit in get_args(Fit)
    }
    for fit, source in read.items():
        assert (source.event_shape, source.dtype) == ((3, 16, 16), torch.uint8)
        assert f"2 resized to 16 x 16 (--data.images.fit {fit})" in source.notes[-1]
    wide, tall = read["centre-crop"][torch.arange(2)]
    for square in (wide, tall):  # the filter reads a little beyond the square
        assert 180 <= int(square.min()) <= int(square.max()) <= 210
    wide, tall = read["pad"][torch.arange(2)]
    assert wide[:, 0].T.unique(dim=0).tolist() == [[255, 0, 0]] == tall[:, :, 0].T.unique(dim=0).tolist()
    assert wide[:, 8, 8].tolist() == [200] * 3
    wide, tall = read["stretch"][torch.arange(2)]
    assert wide[0, 8].tolist() == tall[0, :, 8].tolist()
    assert (int(wide[0, 8, 0]), int(wide[0, 8, 8])) == (0, 200)


@pytest.mark.parametrize("fit", get_args(Fit))
def test_a_large_or_thin_photograph_is_resized(tmp_path: Path, fit: Fit) -> None:
    """With more pixels than are read without resizing; rotated according to its EXIF data."""
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    picture = Image.new("L", (6000, 3000), 255)
    picture.paste(0, (0, 0, 3000, 3000))
    picture.save(tmp_path / "a.jpg", exif=exif)
    Image.new("L", (4000, 1), 90).save(tmp_path / "b.png")
    images = load_folder(tmp_path, max_bytes=LIMIT, config=ImagesConfig(size=8, fit=fit))[torch.arange(2)]
    assert images[0, 0, 1, 4] < 20 < 235 < images[0, 0, 6, 4]
    assert int(images[1].min()) <= 90
    with pytest.raises(ValueError, match=r"a\.jpg: 6000 x 3000 pixels exceed the limit"):
        load_folder(tmp_path, max_bytes=LIMIT)


def test_the_size_must_be_positive() -> None:
    with pytest.raises(ValueError, match="size must be at least 1 pixel, or None, got 0"):
        ImagesConfig(size=0)


def test_a_broken_image_that_is_left_out_does_not_decide_size_or_channels(tmp_path: Path) -> None:
    for number in range(3):
        draw(tmp_path / f"{number}.png", number)
    draw(tmp_path / "broken.png", 0, size=(50, 40), mode="RGB")
    content = (tmp_path / "broken.png").read_bytes()
    (tmp_path / "broken.png").write_bytes(content[: len(content) // 2])
    source = load_folder(tmp_path, max_bytes=LIMIT, leave_out_broken=True)
    assert (len(source), source.event_shape) == (3, (1, 4, 6))
    assert "1 left out that cannot be decoded, such as" in source.notes[-1]


def test_an_image_that_is_removed_during_a_run_is_named(tmp_path: Path) -> None:
    draw(tmp_path / "0.png", 0)
    draw(tmp_path / "1.png", 1)
    source = load_folder(tmp_path, max_bytes=1)
    (tmp_path / "1.png").unlink()
    with pytest.raises(ValueError, match=r"1.png: no such file; it was there when the folder was read"):
        source[torch.tensor([1])]
