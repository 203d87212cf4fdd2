"""The ``.fvc`` file format: a fixed prefix, a JSON header that is read before decoding, and the coder's words."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import dacite
import numpy as np
from numpy.typing import NDArray

from fastvae.settings import Settings

MAGIC = b"FVC\x02"  # the last byte is the version of the format
MAX_LANES = 4096
MAX_HEADER_BYTES = 2**24
_PREFIX = struct.Struct("<4sII")  # magic, size of the header in bytes, CRC-32 of header and words

Words = NDArray[np.uint32]
Layout = Literal["bytes", "text", "folder"]


@dataclass(frozen=True, kw_only=True)
class Header(Settings):
    """The header fields that all ``.fvc`` files have."""

    mode: str
    """Either ``lossless`` or ``lossy``."""
    weights: str
    """Digest of the weights of the model that compressed the file, see `weights_digest`."""
    num_examples: int
    """Number of examples in the file."""
    layout: Layout
    """How the original file stores its pixels, see `PixelFile`."""
    prefix: str
    """The original file's own header (of a folder the names of its images), compressed by zlib and encoded as
    base64."""
    versions: str
    """Versions of the software that compressed the file, for error messages."""

    def __post_init__(self) -> None:
        if self.num_examples < 1:
            raise ValueError(f"num_examples must be at least 1, got {self.num_examples}")

    @property
    def prefix_bytes(self) -> bytes:
        """The original file's own header.

        Raises:
            ValueError: the stored header is damaged.
        """
        try:
            decompressor = zlib.decompressobj()
            return decompressor.decompress(base64.b64decode(self.prefix, validate=True), MAX_HEADER_BYTES)
        except (ValueError, zlib.error) as error:
            raise ValueError(f"prefix is damaged ({error})") from None


@dataclass(frozen=True, kw_only=True)
class LosslessHeader(Header):
    """The header of a losslessly compressed file: the settings of bits-back coding and digests to verify decoding."""

    arithmetic: str
    """Digest of the results of the compressing machine's arithmetic on a fixed input, see `arithmetic_digest`."""
    lanes: int
    """Number of examples that are coded together."""
    step_log2: int
    """log2 of the step of the latents' grid."""
    initial_words: int
    """Number of 32-bit words that the coder was initialised with; decoding recovers them."""
    sha256: str
    """Digest of all pixels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (1 <= self.lanes <= MAX_LANES and -10 <= self.step_log2 <= 0 and self.initial_words >= 0):
            raise ValueError(
                f"lanes must be in 1 .. {MAX_LANES}, step_log2 in -10 .. 0 and initial_words at least 0,"
                f" got {self.lanes}, {self.step_log2} and {self.initial_words}"
            )


@dataclass(frozen=True, kw_only=True)
class LossyHeader(Header):
    """The header of a lossily compressed file: each latent dimension's quantiser, and a digest to verify decoding."""

    quantiser: str
    """int16 [3, D] as base64: log2 of the step, mean, and log2 of the standard deviation, see `LatentQuantiser`."""
    sha256: str
    """Digest of the latents' grid points."""


H = TypeVar("H", bound=Header)


def pack_bytes(data: bytes) -> str:
    """Encode bytes as a JSON string: compressed by zlib, then base64."""
    return base64.b64encode(zlib.compress(data, 9)).decode("ascii")


def write_container(path: Path, header: Header, words: Words) -> int:
    """Write an ``.fvc`` file atomically, by a temporary file that is renamed.

    Returns:
        The file's size in bytes.
    """
    text = json.dumps(asdict(header), separators=(",", ":")).encode("ascii")
    payload = words.astype("<u4").tobytes()
    content = _PREFIX.pack(MAGIC, len(text), zlib.crc32(payload, zlib.crc32(text))) + text + payload
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
    return len(content)


def read_container(path: Path) -> tuple[LosslessHeader | LossyHeader, Words]:
    """Read the header and the words of an ``.fvc`` file without decoding them.

    Raises:
        ValueError: the file is not an ``.fvc`` file, has an unsupported version, or is truncated or damaged.
        OSError: the file cannot be read.
    """
    content = path.read_bytes()
    if content[:3] != MAGIC[:3]:
        raise ValueError(f"{path}: not a file of `fastvae compress`, which must begin with {MAGIC[:3]!r}")
    if content[3:4] != MAGIC[3:]:
        raise ValueError(
            f"{path}: has format version {content[3:4].hex() or '?'}, this version of fastvae reads {MAGIC[3:].hex()}"
        )
    if len(content) < _PREFIX.size:
        raise ValueError(f"{path}: truncated after {len(content)} bytes; copy the file again")
    _, header_bytes, checksum = _PREFIX.unpack_from(content)
    text, payload = content[_PREFIX.size :][:header_bytes], content[_PREFIX.size + header_bytes :]
    if zlib.crc32(payload, zlib.crc32(text)) != checksum or len(payload) % 4 or len(text) != header_bytes:
        raise ValueError(f"{path}: truncated or damaged (its checksum does not match); copy the file again")
    try:
        return _parse_header(text), np.frombuffer(payload, dtype="<u4").astype(np.uint32)
    except ValueError as error:
        raise ValueError(f"{path}: invalid header: {' '.join(str(error).split())}") from None


def _parse_header(text: bytes) -> LosslessHeader | LossyHeader:
    fields: Any = json.loads(text)  # raises ValueError if the text is not JSON
    if not isinstance(fields, dict) or fields.get("mode") not in ("lossless", "lossy"):
        raise ValueError("mode must be lossless or lossy")
    if fields["mode"] == "lossless":
        return _from_fields(LosslessHeader, fields)
    return _from_fields(LossyHeader, fields)


def _from_fields(kind: type[H], fields: dict[str, Any]) -> H:
    try:
        return dacite.from_dict(kind, fields, dacite.Config(strict=True))
    except dacite.DaciteError as error:
        raise ValueError(str(error)) from None
