"""The ``.fvc`` file: a fixed prefix, a JSON header that is read before anything is decoded, and the coder's words."""

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

MAGIC = b"FVC\x02"  # the last byte is the format's version
MAX_LANES = 4096
MAX_HEADER_BYTES = 2**24
_PREFIX = struct.Struct("<4sII")  # magic, bytes of the header, CRC-32 of header and words

Words = NDArray[np.uint32]
Layout = Literal["bytes", "text"]


@dataclass(frozen=True, kw_only=True)
class Header(Settings):
    """What any ``.fvc`` file says before its words."""

    mode: str
    weights: str  # digest of the model that made it, see `weights_digest`
    num_examples: int
    layout: Layout  # how the pixels lay in the file that was compressed, see `PixelFile`
    prefix: str  # that file's own header: base64 of zlib
    versions: str  # what made it, for messages

    def __post_init__(self) -> None:
        if self.num_examples < 1:
            raise ValueError(f"num_examples must be at least 1, got {self.num_examples}")

    @property
    def prefix_bytes(self) -> bytes:
        """The compressed file's own header.

        Raises:
            ValueError: it is damaged.
        """
        try:
            decompressor = zlib.decompressobj()
            return decompressor.decompress(base64.b64decode(self.prefix, validate=True), MAX_HEADER_BYTES)
        except (ValueError, zlib.error) as error:
            raise ValueError(f"prefix is damaged ({error})") from None


@dataclass(frozen=True, kw_only=True)
class LosslessHeader(Header):
    """What a file of ``compress`` says: the bits-back chain's settings, and how to know that decoding went well."""

    arithmetic: str  # digest of what this machine's arithmetic gives on a fixed input, see `arithmetic_digest`
    lanes: int  # examples that are coded together
    step_log2: int  # the latents' grid is 2**step_log2 wide
    initial_words: int  # 32-bit words that the coder started with; they come back at the end
    sha256: str  # of all pixels

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (1 <= self.lanes <= MAX_LANES and -10 <= self.step_log2 <= 0 and self.initial_words >= 0):
            raise ValueError(
                f"lanes must be in 1 .. {MAX_LANES}, step_log2 in -10 .. 0 and initial_words at least 0,"
                f" got {self.lanes}, {self.step_log2} and {self.initial_words}"
            )


@dataclass(frozen=True, kw_only=True)
class LossyHeader(Header):
    """What a file of ``compress --lossy`` says: the quantiser of each latent dimension and its code's Gaussian."""

    quantiser: str  # int16 [3, D]: log2 of the step, mean and log2 of the deviation, in `LatentQuantiser`'s units
    sha256: str  # of the latents' grid points, which a decoder must find again


H = TypeVar("H", bound=Header)


def pack_bytes(data: bytes) -> str:
    """Bytes as a JSON string: base64 of zlib."""
    return base64.b64encode(zlib.compress(data, 9)).decode("ascii")


def write_container(path: Path, header: Header, words: Words) -> int:
    """Write a file beside its name and rename it; returns its size in bytes."""
    text = json.dumps(asdict(header), separators=(",", ":")).encode("ascii")
    payload = words.astype("<u4").tobytes()
    content = _PREFIX.pack(MAGIC, len(text), zlib.crc32(payload, zlib.crc32(text))) + text + payload
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
    return len(content)


def read_container(path: Path) -> tuple[LosslessHeader | LossyHeader, Words]:
    """The header and the words of a file; nothing is decoded yet.

    Raises:
        ValueError: not an ``.fvc`` file, of another version, truncated, or damaged.
        OSError: the file cannot be read.
    """
    content = path.read_bytes()
    if content[:3] != MAGIC[:3]:
        raise ValueError(f"{path}: not a file of `fastvae compress`, which begins with {MAGIC[:3]!r}")
    if content[3:4] != MAGIC[3:]:
        raise ValueError(f"{path}: written in format {content[3:4].hex() or '?'}, this fastvae reads {MAGIC[3:].hex()}")
    if len(content) < _PREFIX.size:
        raise ValueError(f"{path}: truncated after {len(content)} bytes; fetch it anew")
    _, header_bytes, checksum = _PREFIX.unpack_from(content)
    text, payload = content[_PREFIX.size :][:header_bytes], content[_PREFIX.size + header_bytes :]
    if zlib.crc32(payload, zlib.crc32(text)) != checksum or len(payload) % 4 or len(text) != header_bytes:
        raise ValueError(f"{path}: truncated or damaged (its checksum does not fit); fetch it anew")
    try:
        return _parse_header(text), np.frombuffer(payload, dtype="<u4").astype(np.uint32)
    except ValueError as error:
        raise ValueError(f"{path}: not a header of `fastvae compress`: {' '.join(str(error).split())}") from None


def _parse_header(text: bytes) -> LosslessHeader | LossyHeader:
    fields: Any = json.loads(text)  # its errors are ValueErrors
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
