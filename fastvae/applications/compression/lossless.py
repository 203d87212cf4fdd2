"""Lossless compression by bits-back coding (Townsend et al. 2019, arXiv 1901.04866).

The expected length of the code is the negative ELBO.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastvae import ops
from fastvae.applications.compression.coder import Coder, ExhaustedError
from fastvae.applications.compression.container import MAX_LANES, Words
from fastvae.applications.compression.integer_vae import IntegerVAE
from fastvae.applications.compression.pixel_file import Pixels

_PROBED_EXAMPLES = 256  # the grid is chosen by the posteriors of the first 256 examples
_SMALLEST = 0.01  # fraction of posterior standard deviations that may be smaller than a grid step
_INITIAL_SEED = 0x46564331  # seed of the initial words; its value does not matter
Progress = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class BitsBack:
    """Losslessly compressed examples."""

    words: Words
    """The code, uint32."""
    initial_words: int
    """Number of words that the coder was initialised with; decoding all examples recovers them."""
    step_log2: int
    """log2 of the step of the latents' grid."""


def compress_pixels(vae: IntegerVAE, pixels: Pixels, *, lanes: int, progress: Progress | None = None) -> BitsBack:
    """Compress ``pixels`` [N, P], ``lanes`` examples at a time.

    For each group of examples, latents are popped under q(z|x), which recovers bits of the previous groups; then x is
    pushed under p(x|z) and z under the prior. The first group pops arbitrary words, the initial bits.

    Raises:
        ValueError: a pixel is not a level of the model, or ``lanes`` is out of range.
    """
    check_lanes(lanes)
    vae.check_pixels(pixels)
    step_log2 = choose_step(vae, pixels[:_PROBED_EXAMPLES])
    initial_words = _words_of_first_group(vae, pixels[-_last_group(len(pixels), lanes) :], 2.0**step_log2)
    while True:
        try:
            words = _push_all(vae, pixels, initial_words, step_log2, lanes, progress)
            return BitsBack(words=words, initial_words=initial_words, step_log2=step_log2)
        except ExhaustedError:  # a later group popped more than all previous groups had pushed
            initial_words *= 2


def decompress_pixels(
    vae: IntegerVAE, code: BitsBack, num_examples: int, *, lanes: int, progress: Progress | None = None
) -> Pixels:
    """Recover the pixels [N, P] that were passed to `compress_pixels`.

    Raises:
        ValueError: the words are damaged, or were written by another model or with different arithmetic.
    """
    step, coder = 2.0**code.step_log2, Coder(code.words)
    pixels = np.empty((num_examples, vae.num_pixels), dtype=np.uint8)
    for start in range(0, num_examples, lanes):
        group = pixels[start : start + lanes]
        z = coder.pop_prior(len(group) * vae.latent_dim, step)
        coder.pop_pixels(group, vae.pixel_codes(z, step, group))
        if int(group.max()) >= vae.levels:
            raise ValueError("a decoded pixel is not a level of the model: the words are damaged")
        coder.push_posterior(z, vae.posterior(group, step), step)
        if progress is not None:
            progress(len(group))
    left = coder.words(sealed=True)
    if len(left) != code.initial_words or not np.array_equal(left, _initial(len(left))):
        raise ValueError(
            "decoding did not recover the initial words: the file is damaged, or was made with different arithmetic"
        )
    return pixels


def check_lanes(lanes: int) -> None:
    """Check the number of examples that are coded together.

    Raises:
        ValueError: ``lanes`` is out of range.
    """
    if not 1 <= lanes <= MAX_LANES:
        raise ValueError(f"lanes must be in 1 .. {MAX_LANES}, got {lanes}")


def choose_step(vae: IntegerVAE, pixels: Pixels) -> int:
    """log2 of the largest grid step that is below nearly all posterior standard deviations.

    A finer grid would only waste initial bits.
    """
    stddev = vae.posterior(pixels, 2.0**-10).stddev * 2.0**-10
    return int(np.clip(math.floor(math.log2(np.quantile(stddev, _SMALLEST))), -10, 0))


def _push_all(
    vae: IntegerVAE, pixels: Pixels, initial_words: int, step_log2: int, lanes: int, progress: Progress | None
) -> Words:
    step, coder = 2.0**step_log2, Coder(_initial(initial_words), sealed=True)
    for start in reversed(range(0, len(pixels), lanes)):  # a stack: the last group pushed is the first decoded
        group = pixels[start : start + lanes]
        z = coder.pop_posterior(vae.posterior(group, step), step)
        coder.push_pixels(group, vae.pixel_codes(z, step, group))
        coder.push_prior(z, step)
        if progress is not None:
            progress(len(group))
    return coder.words()


def _words_of_first_group(vae: IntegerVAE, group: Pixels, step: float) -> int:
    """The number of initial words that the first group's latents need."""
    plenty = 4 + len(group) * vae.latent_dim  # no symbol of the coder takes more than 24 bits
    coder = Coder(_initial(plenty), sealed=True)
    before = coder.num_bits
    coder.pop_posterior(vae.posterior(group, step), step)
    return 4 + math.ceil((before - coder.num_bits) / 32)


def _last_group(num_examples: int, lanes: int) -> int:
    return (num_examples - 1) % lanes + 1


def _initial(num_words: int) -> Words:
    """Pseudorandom initial words, the same on every machine; the last n of any number of words are the same."""
    integers = ops.philox_integers(ops.noise_key(_INITIAL_SEED), 1, max(num_words, 1))
    words: Words = integers.flatten().numpy().astype(np.int64).astype(np.uint32)[:num_words]
    return words[::-1].copy()
