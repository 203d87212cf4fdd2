"""Image files of phones, browsers and design programs: rotated, transparent, 16-bit; unrelated files in the folder."""

from __future__ import annotations

import io
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, features

from fastvae.data import DataConfig, build_data
from fastvae.data.files.image_files import decode_image, image_extensions
from fastvae.data.files.stamp import stamp_of, why_unreadable
from fastvae.data.files.tar import TarShards
from fastvae.data.pixels.config import ImagesConfig
from fastvae.data.pixels.images import load_folder
from fastvae.data.pixels.own import holds_images

LIMIT = 2**24
ORIENTATION = 0x0112
GREY = np.add.outer(np.arange(0, 240, 40), np.arange(0, 16, 2)).astype(np.uint8)  # 6 rows of 8


def every(folder: Path, **config: Any) -> torch.Tensor:
    source = load_folder(folder, max_bytes=LIMIT, config=ImagesConfig(**config))
    return source[torch.arange(len(source))]


def note(folder: Path) -> str:
    (line,) = load_folder(folder, max_bytes=LIMIT).notes
    assert "\n" not in line
    return line


def turned(orientation: int) -> Image.Image:
    """Return the pixels that a camera stores with this EXIF orientation if GREY is the upright image."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    image = Image.fromarray(GREY)
    return image.transpose(undo[orientation]) if orientation in undo else image


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("extension", [".png", ".tif", ".webp", ".jpg"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, extension: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options: dict[str, Any] = {".webp": {"lossless": True}, ".jpg": {"quality": 100}}.get(extension, {})
    turned(orientation).save(tmp_path / f"a{extension}", exif=exif, **options)
    Image.fromarray(GREY).save(tmp_path / f"b{extension}", **options)
    images = every(tmp_path)
    assert images.shape[2:] == GREY.shape
    torch.testing.assert_close(images[0].float(), images[1].float(), atol=3.0, rtol=0)
    assert ("1 turned upright" in note(tmp_path)) == (orientation in range(2, 9))


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "L"])
@pytest.mark.parametrize(("background", "value"), [("white", 255), ("#000000", 0), ("red", None)])
def test_transparent_pixels_have_the_background_colour(
    tmp_path: Path, mode: str, background: str, value: int | None
) -> None:
    for name, hidden in (("a", 10), ("b", 200)):
        if mode in ("P", "L"):
            image = Image.fromarray(np.array([[hidden, 77]], dtype=np.uint8), "L")
            if mode == "P":
                image = image.convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE, colors=2)
            image.save(tmp_path / f"{name}.png", transparency=image.getpixel((0, 0)))
        else:
            pixels = np.array([[[hidden, 0], [77, 255]]], dtype=np.uint8)
            Image.fromarray(pixels, "LA").convert(mode).save(tmp_path / f"{name}.png")
    images = every(tmp_path, background=background)
    assert torch.equal(images[0], images[1])
    assert images[0, :, 0, 1].unique().tolist() == [77]
    if value is not None:
        assert images[0, :, 0, 0].unique().tolist() == [value]
    elif images.shape[1] == 3:
        assert images[0, :, 0, 0].tolist() == [255, 0, 0]
    assert "2 with transparency, on white (--data.images.background)" in note(tmp_path)


def test_partly_transparent_pixels_are_blended(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2, 4), (0, 0, 0, 51), dtype=np.uint8), "RGBA").save(tmp_path / "a.png")
    assert every(tmp_path).unique().tolist() == [204]
    assert decode_image((tmp_path / "a.png").read_bytes(), "a.png", "black").unique().tolist() == [0]


def test_the_background_must_be_a_colour() -> None:
    with pytest.raises(ValueError, match=r"background must be a colour such as white or #ff8000, got 'glass'"):
        ImagesConfig(background="glass")


def png(channels: int, depth: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    row = b"\0" + bytes(4 * channels * depth // 8)
    header = struct.pack(">IIBBBBB", 4, 4, depth, colour, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * 4)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def deep_jpeg2000(mode: str) -> bytes:
    content = bytearray(saved(Image.new(mode, (4, 4)), "JPEG2000"))
    content[content.find(b"\xff\x4f\xff\x51") + 42] = 11
    return bytes(content)


def saved(image: Image.Image, form: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def deep_tiff(channels: int = 3, order: str = "<") -> bytes:
    """A TIFF file with channels of 16 bits in one strip: its tags, followed by their data."""
    pixels, tags = bytes(4 * 4 * 2 * channels), 9 + (channels == 4)
    end = 8 + 2 + 12 * tags + 4
    entries = [
        (256, 3, 1, 4), (257, 3, 1, 4), (258, 3, channels, end), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, end + 2 * channels), (277, 3, 1, channels), (278, 3, 1, 4), (279, 4, 1, len(pixels)),
        *([(338, 3, 1, 2)] if channels == 4 else []),
    ]  # fmt: skip
    table = b"".join(
        struct.pack(f"{order}HHI", *entry[:3])
        + struct.pack(
            f"{order}{'HH' if entry[1:3] == (3, 1) else 'I'}", entry[3], *([0] if entry[1:3] == (3, 1) else [])
        )
        for entry in entries
    )
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, tags)
    return start + table + bytes(4) + struct.pack(f"{order}{channels}H", *[16] * channels) + pixels


def deep_sgi(channels: int) -> bytes:
    header = struct.pack(">hBBHHHHii", 474, 0, 2, 3 if channels > 1 else 2, 4, 4, channels, 0, 65535)
    return header.ljust(512, b"\0") + bytes(32 * channels)


def deep_fits(bits: int) -> bytes:
    cards = {"SIMPLE": "T", "BITPIX": bits, "NAXIS": 2, "NAXIS1": 4, "NAXIS2": 4}
    lines = [f"{name:8}= {value:>20}".ljust(80) for name, value in cards.items()]
    return "".join([*lines, "END"]).ljust(2880).encode() + bytes(2880)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *((f"{channels}.png", png(channels, 16)) for channels in (1, 2, 3, 4)),
        ("a.pgm", b"P5 4 4 65535\n" + bytes(32)),
        ("a.ppm", b"P6 4 4 4095\n" + bytes(96)),
        ("plain.ppm", b"P3 1 1 1023\n5 6 7\n"),
        ("plain.pgm", b"P2 1 1 65535\n5\n"),
        ("float.pfm", b"Pf 4 4 -1.0\n" + bytes(64)),
        *((f"{n}{order}.tif", deep_tiff(n, order)) for n in (3, 4) for order in "<>"),
        *((f"{mode}.tif", saved(Image.new(mode, (4, 4)), "TIFF")) for mode in ("I;16", "I;16B", "I", "F")),
        *((f"{mode}.png", saved(Image.new(mode, (4, 4)), "PNG")) for mode in ("I;16", "I;16B")),
        *((f"{n}.sgi", deep_sgi(n)) for n in (1, 3)),
        *((f"{bits}.fits", deep_fits(bits)) for bits in (16, -32)),
        *([("a.jp2", deep_jpeg2000("RGB")), ("g.jp2", deep_jpeg2000("L"))] if features.check("jpg_2000") else []),
    ],
)
def test_more_than_eight_bits_are_refused_in_every_mode(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        ValueError, match=r"must have 8 bits per channel, got .*; convert it to 8 bits, or give .* .npy"
    ) as caught:
        every(tmp_path)
    assert name in str(caught.value)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_same_format_with_eight_bits_is_read(tmp_path: Path, channels: int) -> None:
    (tmp_path / "a.png").write_bytes(png(channels, 8))
    assert every(tmp_path).shape == (1, 3 if channels > 2 else 1, 4, 4)


@pytest.mark.parametrize(
    "extension",
    [".jfif", ".JPE", ".avif", ".jp2", ".tga", ".pcx", ".pbm", ".pnm", ".qoi", ".ico", ".dds", ".bmp"],
)
def test_every_format_of_pillow_is_read(tmp_path: Path, extension: str) -> None:
    if extension.lower() not in image_extensions():
        pytest.skip("this Pillow was built without it")
    form = Image.registered_extensions()[extension.lower()]
    Image.new("1" if extension == ".pbm" else "RGB", (16, 16)).save(tmp_path / f"a{extension}", form)
    assert holds_images(tmp_path)
    assert every(tmp_path).shape[2:] == (16, 16)


def test_formats_that_run_another_program_are_refused() -> None:
    assert not {".eps", ".pdf", ".ps", ".h5", ".mpg"} & set(image_extensions())


def junk(folder: Path, num: int = 4) -> Path:
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(num):
            Image.fromarray(GREY + number).save(folder / name / f"{number:03}.png")
            (folder / name / f"._{number:03}.png").write_bytes(b"\0\x05\x16\x07")
    for hidden in (".ipynb_checkpoints", "cat/.thumbs"):
        (folder / hidden).mkdir()
        Image.fromarray(GREY).save(folder / hidden / "000.png")
    (folder / "notes.txt").write_text("Copyright")
    (folder / "photo.heic").write_bytes(b"?")
    (folder / "empty").mkdir()
    return folder


def test_hidden_files_are_ignored(tmp_path: Path) -> None:
    source = load_folder(junk(tmp_path), max_bytes=LIMIT)
    assert source.labels is not None
    assert source.labels.tolist() == [0] * 4 + [1] * 4
    line = note(tmp_path)
    for words in ("8 images read (8 .png)", "10 hidden", "2 of other kinds (1 .txt, 1 .heic)", "no image in empty"):
        assert words in line
    data = build_data(DataConfig(name="file", path=tmp_path))
    assert data.label_names == ("cat", "dog")
    assert line in data.notes


def test_a_hidden_file_changes_no_run(tmp_path: Path) -> None:
    path = junk(tmp_path / "images")
    state = {"file.json": stamp_of(path, 8)}
    (path / ".DS_Store").write_bytes(b"Mac")
    assert why_unreadable(path, state) is None
    (path / "dog" / "000.png").unlink()
    assert "has changed" in str(why_unreadable(path, state))


def test_the_error_for_a_folder_without_images_lists_its_content(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"?")
    (tmp_path / "._a.png").write_bytes(b"?")
    with pytest.raises(ValueError, match=r"contains no images; .*skipped: 1 hidden, 1 of other kinds \(1 .heic\)"):
        every(tmp_path)


def test_images_outside_folders_and_further_frames_are_reported(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    Image.fromarray(GREY).save(tmp_path / "cat" / "a.png")
    Image.fromarray(GREY).save(tmp_path / "b.gif", save_all=True, append_images=[Image.fromarray(GREY + 9)])
    for words in ("no classes, since 1 are next to", "1 with several pictures, of which the first is read"):
        assert words in note(tmp_path)


def test_metadata_files_of_macos_in_a_tar_are_ignored(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for number in range(3):
            for name, content in (
                (f"._{number}.png", b"\0\x05"),
                (f"{number}.png", saved(Image.fromarray(GREY), "PNG")),
            ):
                member = tarfile.TarInfo(f"./{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    assert len(TarShards(tmp_path, max_bytes=LIMIT)) == 3
