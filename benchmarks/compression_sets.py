"""Images that `app_compression.py` compresses, and their sizes in other formats."""

from __future__ import annotations

import gzip
import io
import lzma
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
MOSAIC_COLUMNS = 50


def letters(folder: Path) -> Pixels:
    """The images of Omniglot's small background sets [N, 28, 28], averaged from 105 x 105 pixels; strokes are bright.

    Alphabets that are in both sets count once; the order is random, but fixed.
    """
    images: dict[str, Pixels] = {}
    for path in sorted(folder.glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".png") and "__MACOSX" not in name:
                    with Image.open(io.BytesIO(archive.read(name))) as image:
                        small = image.convert("L").resize((28, 28), Image.Resampling.BOX)
                    images[name.partition("/")[2]] = 255 - np.asarray(small)
    order = np.random.default_rng(0).permutation(len(images))
    return np.stack([images[name] for name in sorted(images)])[order]


def photographs(folder: Path) -> Pixels:
    """The 4000 photographs of CIFAR-10 [N, 3, 32, 32]: four pictures with an image of 1024 pixels in each row."""
    parts = []
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as image:
            parts.append(np.asarray(image.convert("RGB")))
    rows = np.concatenate(parts)
    return np.ascontiguousarray(rows.reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2))


def mosaic(pixels: Pixels) -> Pixels:
    """All images in one, so that no format needs a header per image; the last row is padded with black."""
    size = 32 if pixels.ndim == 4 else 28
    images = pixels.transpose(0, 2, 3, 1) if pixels.ndim == 4 else pixels.reshape(-1, size, size, 1)
    rows = -(-len(images) // MOSAIC_COLUMNS)
    padded = np.zeros((rows * MOSAIC_COLUMNS, *images.shape[1:]), np.uint8)
    padded[: len(images)] = images
    grid = padded.reshape(rows, MOSAIC_COLUMNS, size, size, -1).swapaxes(1, 2)
    return grid.reshape(rows * size, MOSAIC_COLUMNS * size, -1).squeeze()


def format_bytes(pixels: Pixels, how: str, *, binary: bool = False, **options: Any) -> int:
    """Size of the mosaic in an image format, with 1 or 8 bits per pixel."""
    stream, picture = io.BytesIO(), mosaic(pixels)
    image = Image.fromarray(picture * 255).convert("1") if binary else Image.fromarray(picture)
    image.save(stream, how, **options)
    return len(stream.getvalue())


def others(pixels: Pixels, *, binary: bool) -> dict[str, float]:
    """Bits per pixel of general coders; for gzip and xz, eight binary pixels are packed into a byte."""
    content = np.packbits(pixels.reshape(len(pixels), -1), axis=1).tobytes() if binary else pixels.tobytes()
    sizes = {
        "gzip -9": len(gzip.compress(content, 9)),
        "xz -9": len(lzma.compress(content, preset=9)),
        "PNG of all images": format_bytes(pixels, "PNG", binary=binary, optimize=True),
    }
    if not binary:
        webp = format_bytes(pixels, "WEBP", lossless=True, quality=100, method=6)
        sizes["WebP of all images, lossless"] = webp
    return {name: 8 * size / pixels.size for name, size in sizes.items()}
