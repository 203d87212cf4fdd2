"""Lossless compression by bits back (Townsend et al. 2019, arXiv 1901.04866): its length is the negative ELBO."""

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

_PROBED_EXAMPLES = 256  # whose posteriors decide the grid
_SMALLEST = 0.01  # the share of posterior deviations that may be finer than a grid step
_INITIAL_SEED = 0x46564331  # of the words that the coder starts with; any number would do
Progress = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class BitsBack:
    """A compressed set of examples."""

    words: Words  # uint32
    initial_words: int  # how many of them the coder started with; popping everything gives them back
    step_log2: int  # log2 of the grid of latents


def compress_pixels(vae: IntegerVAE, pixels: Pixels, *, lanes: int, progress: Progress | None = None) -> BitsBack:
    """Compress ``pixels`` [N, P], ``lanes`` examples at a time.

    Each group of examples pops its latents under q(z|x), which gives back those bits to what was pushed before, then
    pushes x under p(x|z) and z under the prior. The first group pops words that mean nothing: the initial bits.

    Raises:
        ValueError: a pixel that is no level of the model, or a number of lanes that no file may have.
    """
    check_lanes(lanes)
    vae.check_pixels(pixels)
    step_log2 = choose_step(vae, pixels[:_PROBED_EXAMPLES])
    initial_words = _words_of_first_group(vae, pixels[-_last_group(len(pixels), lanes) :], 2.0**step_log2)
    while True:
        try:
            words = _push_all(vae, pixels, initial_words, step_log2, lanes, progress)
            return BitsBack(words=words, initial_words=initial_words, step_log2=step_log2)
        except ExhaustedError:  # a later group popped more than all before had pushed
            initial_words *= 2


def decompress_pixels(
    vae: IntegerVAE, code: BitsBack, num_examples: int, *, lanes: int, progress: Progress | None = None
) -> Pixels:
    """The pixels [N, P] that `compress_pixels` got.

    Raises:
        ValueError: the words are not what this model and this machine write; they are damaged, or made elsewhere.
    """
    step, coder = 2.0**code.step_log2, Coder(code.words)
    pixels = np.empty((num_examples, vae.num_pixels), dtype=np.uint8)
    for start in range(0, num_examples, lanes):
        group = pixels[start : start + lanes]
        z = coder.pop_prior(len(group) * vae.latent_dim, step)
        group[:] = coder.pop_pixels(len(group), vae.num_pixels, vae.pixel_code(z, step))
        if int(group.max()) >= vae.levels:
            raise ValueError("a decoded pixel is no level of the model: the words are damaged")
        coder.push_posterior(z, vae.posterior(group, step), step)
        if progress is not None:
            progress(len(group))
    left = coder.words(sealed=True)
    if len(left) != code.initial_words or not np.array_equal(left, _initial(len(left))):
        raise ValueError("the words that the coder started with did not come back: they are damaged, or made elsewhere")
    return pixels


def check_lanes(lanes: int) -> None:
    """ValueError unless a file may have so many lanes."""
    if not 1 <= lanes <= MAX_LANES:
        raise ValueError(f"lanes must be in 1 .. {MAX_LANES}, got {lanes}")


def choose_step(vae: IntegerVAE, pixels: Pixels) -> int:
    """log2 of the widest grid that nearly all posteriors are not finer than: a finer one wastes initial bits only."""
    stddev = vae.posterior(pixels, 2.0**-10).stddev * 2.0**-10
    return int(np.clip(math.floor(math.log2(np.quantile(stddev, _SMALLEST))), -10, 0))


def _push_all(
    vae: IntegerVAE, pixels: Pixels, initial_words: int, step_log2: int, lanes: int, progress: Progress | None
) -> Words:
    step, coder = 2.0**step_log2, Coder(_initial(initial_words), sealed=True)
    for start in reversed(range(0, len(pixels), lanes)):  # a stack: the last group pushed is the first decoded
        group = pixels[start : start + lanes]
        z = coder.pop_posterior(vae.posterior(group, step), step)
        coder.push_pixels(group, vae.pixel_code(z, step))
        coder.push_prior(z, step)
        if progress is not None:
            progress(len(group))
    return coder.words()


def _words_of_first_group(vae: IntegerVAE, group: Pixels, step: float) -> int:
    """How many initial words the first group's latents take."""
    plenty = 4 + len(group) * vae.latent_dim  # no symbol of the coder takes more than 24 bits
    coder = Coder(_initial(plenty), sealed=True)
    before = coder.num_bits
    coder.pop_posterior(vae.posterior(group, step), step)
    return 4 + math.ceil((before - coder.num_bits) / 32)


def _last_group(num_examples: int, lanes: int) -> int:
    return (num_examples - 1) % lanes + 1


def _initial(num_words: int) -> Words:
    """Words that look random, and are the same for everybody; fewer of them are the same ones nearest the top."""
    integers = ops.philox_integers(ops.noise_key(_INITIAL_SEED), 1, max(num_words, 1))
    words: Words = integers.flatten().numpy().astype(np.int64).astype(np.uint32)[:num_words]
    return words[::-1].copy()
