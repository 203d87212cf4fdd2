"""``fastvae compress`` and ``fastvae decompress``: from a file or folder of pixels to an ``.fvc`` file and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from fastvae.applications.compression import fingerprint
from fastvae.applications.compression.container import (
    LosslessHeader,
    LossyHeader,
    Words,
    pack_bytes,
    read_container,
    write_container,
)
from fastvae.applications.compression.folder import (
    Names,
    check_target,
    parse_names,
    read_image_folder,
    write_image_folder,
)
from fastvae.applications.compression.integer_vae import IntegerVAE
from fastvae.applications.compression.lossless import (
    BitsBack,
    Progress,
    check_lanes,
    compress_pixels,
    decompress_pixels,
)
from fastvae.applications.compression.lossy import (
    CodedLatents,
    LatentQuantiser,
    compress_lossily,
    decode_points,
    draw_points,
)
from fastvae.applications.compression.pixel_file import PixelFile, Pixels, read_pixel_file
from fastvae.applications.config import CODED_TOGETHER, MAX_COMPRESSED_GIB
from fastvae.run import LoadedRun


@dataclass(frozen=True, kw_only=True)
class CompressionReport:
    """The sizes before and after compression.

    The initial words are counted separately, because decoding recovers them.
    """

    num_examples: int
    """Number of examples in the file."""
    original_bytes: int
    """Size of the original, unpacked file, or of all image files of a folder."""
    pixel_bytes: int
    """Size of the pixels, one byte each."""
    file_bytes: int
    """Size of the compressed file."""
    initial_bytes: int
    """Size of the initial words, which are a part of the compressed file."""
    bits_per_pixel: float
    """Size of the whole compressed file in bits per pixel."""
    net_bits_per_pixel: float
    """Size of the compressed file without the initial words in bits per pixel."""
    folder: str | None = None
    """Of a folder: how many images were read, and what was skipped."""


def compress_file(
    run: LoadedRun,
    data: Path,
    out: Path,
    *,
    step: float | None = None,
    lanes: int = CODED_TOGETHER,
    max_gib: float = MAX_COMPRESSED_GIB,
    progress: Progress | None = None,
) -> CompressionReport:
    """Compress pixels to an ``.fvc`` file, which ``decompress_file`` with the same run turns back into them.

    Args:
        run: a finished run whose model has a likelihood of discrete pixels.
        data: the file to compress, see `read_pixel_file`, or a folder of images, see `read_image_folder`.
        out: the file to write.
        step: None for lossless compression, or the grid step of lossy compression, see `compress_lossily`.
        lanes: number of examples that are coded together; more are faster but need more initial words.
        max_gib: largest allowed size of the unpacked data.
        progress: called with the number of examples that were finished since the last call.

    Raises:
        ValueError: the model, the file or an image is not suitable.
    """
    check_lanes(lanes)
    vae = IntegerVAE(run.model, run.data)
    if data.is_dir():
        images = read_image_folder(data, vae.event_shape, vae.levels, max_bytes=_bytes_of(max_gib))
        content, folder, original_bytes = images.content, images.line, images.num_bytes
    else:
        content, folder = read_pixel_file(data, vae.event_shape, max_bytes=_bytes_of(max_gib)), None
        original_bytes = len(content.to_bytes())
    header: LosslessHeader | LossyHeader
    if step is None:
        code = compress_pixels(vae, content.pixels, lanes=lanes, progress=progress)
        header, words = _lossless_header(run, vae, content, code, lanes), code.words
    else:
        latents = compress_lossily(vae, content.pixels, step=step)
        header, words = _lossy_header(run, content, latents), latents.words
    return _report(content.pixels, header, write_container(out, header, words), original_bytes, folder)


def decompress_file(
    run: LoadedRun,
    file: Path,
    out: Path,
    *,
    max_gib: float = MAX_COMPRESSED_GIB,
    progress: Progress | None = None,
) -> Pixels:
    """Recover a file or folder that ``compress_file`` compressed.

    Args:
        run: the run that the file was compressed with.
        file: the ``.fvc`` file.
        out: the file to write, or a new folder for an archive of a folder.
        max_gib: largest allowed size of the decompressed pixels.
        progress: called with the number of examples that were finished since the last call.

    Returns:
        The pixels [N, P].

    Raises:
        ValueError: the file is not an ``.fvc`` file, is damaged, or needs another model or other arithmetic to decode,
            or ``out`` is a folder (or exists, for an archive of a folder); in these cases nothing is written.
    """
    limit = _bytes_of(max_gib)
    header, words = read_container(file)
    if header.layout == "folder":
        check_target(out)
    elif out.is_dir():
        raise ValueError(f"--out: must be a file, {out} is a folder; add a name, such as {out / 'out'}")
    vae = IntegerVAE(run.model, run.data)
    try:
        _check_fingerprint(run, vae, header)
        if header.num_examples * vae.num_pixels > limit:
            raise ValueError(f"{header.num_examples} examples exceed the limit of {max_gib} GiB (--max-gib)")
        names = None
        if header.layout == "folder":
            names = parse_names(header.prefix_bytes, header.num_examples, vae.event_shape)
        pixels = _decode(vae, header, words, progress)
        content = PixelFile(pixels=pixels, layout=header.layout, prefix=header.prefix_bytes)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    _write(out, content, names)
    return pixels


def _write(out: Path, content: PixelFile, names: Names | None) -> None:
    """Write the recovered pixels atomically: as images with their names, or as the one file that they came from."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if names is not None:
        write_image_folder(out, names, content.pixels)
        return
    temporary = out.with_name(out.name + ".tmp")
    temporary.write_bytes(content.to_bytes())
    temporary.replace(out)


def _decode(vae: IntegerVAE, header: LosslessHeader | LossyHeader, words: Words, progress: Progress | None) -> Pixels:
    if isinstance(header, LossyHeader):
        quantiser = LatentQuantiser.unpack(header.quantiser, vae.latent_dim)
        points = decode_points(quantiser, words, header.num_examples)
        if fingerprint.array_digest(points) != header.sha256:
            raise ValueError(
                "the decoded latents differ from the encoded ones: the file is damaged or the arithmetic differs"
                f" (compressed with {header.versions}; this machine has {fingerprint.versions()})"
            )
        return draw_points(vae, quantiser, points)
    code = BitsBack(words=words, initial_words=header.initial_words, step_log2=header.step_log2)
    pixels = decompress_pixels(vae, code, header.num_examples, lanes=header.lanes, progress=progress)
    if fingerprint.array_digest(pixels) != header.sha256:
        raise ValueError("the decoded pixels differ from the compressed ones: the file is damaged")
    return pixels


def _check_fingerprint(run: LoadedRun, vae: IntegerVAE, header: LosslessHeader | LossyHeader) -> None:
    if header.weights != (own := fingerprint.weights_digest(run.model)):
        raise ValueError(
            f"compressed with other weights (digest {header.weights[:8]}, this run's is {own[:8]});"
            " decompress with the run that compressed the file"
        )
    if isinstance(header, LosslessHeader) and header.arithmetic != fingerprint.arithmetic_digest(vae):
        raise ValueError(
            f"compressed with different arithmetic, by {header.versions}; this machine has {fingerprint.versions()};"
            " decompress with the same versions"
        )


def _lossless_header(run: LoadedRun, vae: IntegerVAE, content: PixelFile, code: BitsBack, lanes: int) -> LosslessHeader:
    return LosslessHeader(
        mode="lossless",
        weights=fingerprint.weights_digest(run.model),
        arithmetic=fingerprint.arithmetic_digest(vae),
        num_examples=len(content.pixels),
        lanes=lanes,
        step_log2=code.step_log2,
        initial_words=code.initial_words,
        layout=content.layout,
        prefix=pack_bytes(content.prefix),
        sha256=fingerprint.array_digest(content.pixels),
        versions=fingerprint.versions(),
    )


def _lossy_header(run: LoadedRun, content: PixelFile, latents: CodedLatents) -> LossyHeader:
    return LossyHeader(
        mode="lossy",
        weights=fingerprint.weights_digest(run.model),
        num_examples=len(content.pixels),
        layout=content.layout,
        prefix=pack_bytes(content.prefix),
        versions=fingerprint.versions(),
        quantiser=latents.quantiser.pack(),
        sha256=fingerprint.array_digest(latents.points),
    )


def _bytes_of(gib: float) -> int:
    """A memory limit in bytes."""
    if not (math.isfinite(gib) and gib > 0):
        raise ValueError(f"max_gib must be a positive number of GiB, got {gib}")
    return int(gib * 2**30)


def _report(
    pixels: Pixels, header: LosslessHeader | LossyHeader, file_bytes: int, original_bytes: int, folder: str | None
) -> CompressionReport:
    initial_bytes = 4 * header.initial_words if isinstance(header, LosslessHeader) else 0
    return CompressionReport(
        num_examples=len(pixels),
        original_bytes=original_bytes,
        pixel_bytes=pixels.size,
        file_bytes=file_bytes,
        initial_bytes=initial_bytes,
        bits_per_pixel=8 * file_bytes / pixels.size,
        net_bits_per_pixel=8 * (file_bytes - initial_bytes) / pixels.size,
        folder=folder,
    )
