"""How many bits per channel an image file has, whatever mode Pillow reads it in: some formats are reduced silently."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path

from PIL import Image

_BITS_PER_SAMPLE = 258  # the TIFF tag
_DEEP_RAW_MODE = re.compile(r";(16|32)[A-Z]*[BLNSF]\b|;12\b|SGI16|BC6H")
_START_BYTES = 2**16  # of a file, which hold the depth of JPEG 2000 and AVIF


def depth_of(image: Image.Image, path: Path, file: BytesIO | None) -> str | None:
    """Describe a depth of more than 8 bits per channel, independently of Pillow's mode; None for 8 or fewer."""
    if image.format == "TIFF":
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, (1,))  # type: ignore[attr-defined]
        deepest = max(bits) if isinstance(bits, tuple) else bits
        return f"{deepest} bits" if deepest > 8 else None
    for codec, _, _, arguments in getattr(image, "tile", ()):  # how the file stores the pixels
        if codec.startswith("ppm") and isinstance(arguments, tuple) and arguments[-1] > 255:
            return f"values up to {arguments[-1]}"
        if _DEEP_RAW_MODE.search(f"{codec} {arguments}"):
            return "more than 8 bits"
    if image.format == "JPEG2000":
        return _jpeg2000_depth(_start(path, file))
    if image.format == "AVIF":
        start = _start(path, file)
        place = start.find(b"av1C")
        is_deep = 0 <= place < len(start) - 6 and start[place + 6] & 0x40
        return "more than 8 bits" if is_deep else None
    return None


def _jpeg2000_depth(start: bytes) -> str | None:
    """Depth of the first component: byte 42 of the code stream's header (ISO/IEC 15444-1, A.5.1)."""
    place = start.find(b"\xff\x4f\xff\x51")
    if place < 0 or len(start) <= place + 42:
        return None
    bits = (start[place + 42] & 0x7F) + 1
    return f"{bits} bits" if bits > 8 else None


def _start(path: Path, file: BytesIO | None) -> bytes:
    if file is not None:
        return file.getvalue()[:_START_BYTES]
    with path.open("rb") as opened:
        return opened.read(_START_BYTES)
