"""The entropy coder: constriction's asymmetric numeral system (ANS) for latents on a grid and for pixels.

ANS (Duda 2009, arXiv 0902.0271) is a stack: the symbol pushed last is popped first. Popping a symbol from random words
under a distribution samples from that distribution, which is the basis of bits-back coding.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastvae.applications.compression.container import Words
from fastvae.applications.compression.integer_vae import LATENT_LIMIT, Floats, GridPosterior, Integers, PixelCode
from fastvae.applications.compression.pixel_file import Pixels

_MIN_WORDS = 3  # with two words or fewer the coder may be out of words, and popping is then not reversible


class ExhaustedError(ValueError):
    """The coder ran out of words: more was popped than it contained."""


class Coder:
    """A stack of 32-bit words to which symbols are pushed and from which they are popped.

    Args:
        words: the initial words, uint32 [n].
        sealed: True if the words are arbitrary, False if they are the output of a coder.

    Raises:
        ModuleNotFoundError: constriction is not installed.
        ValueError: ``sealed`` is False and the words are not the output of a coder.
    """

    def __init__(self, words: Words, *, sealed: bool = False) -> None:
        library = _library()
        self._models: Any = library.stream.model
        self._stack: Any = library.stream.stack.AnsCoder(words, seal=sealed)

    @property
    def num_bits(self) -> int:
        """The number of bits on the stack."""
        return int(self._stack.num_valid_bits())

    def words(self, *, sealed: bool = False) -> Words:
        """The words on the stack, uint32; ``sealed`` is the inverse of the constructor's.

        Raises:
            ValueError: ``sealed`` is True and the stack does not contain sealed words.
        """
        try:
            words: Words = self._stack.get_compressed(unseal=sealed)
        except AssertionError:  # constriction raises it when the words are not sealed
            raise ValueError("the coder does not contain the words that it was initialised with") from None
        return words

    def push_posterior(self, z: Integers, posterior: GridPosterior, step: float) -> None:
        """Push grid points [n], coded under a posterior."""
        self._stack.encode_reverse(z, self._grid(step), posterior.mean, posterior.stddev)

    def pop_posterior(self, posterior: GridPosterior, step: float) -> Integers:
        """Pop grid points [n] under a posterior, which samples from it."""
        return self._checked(self._stack.decode(self._grid(step), posterior.mean, posterior.stddev))

    def push_prior(self, z: Integers, step: float) -> None:
        """Push grid points [n], coded under N(0, 1)."""
        self._stack.encode_reverse(z, self._grid(step, 0.0, 1 / step))

    def pop_prior(self, num: int, step: float) -> Integers:
        """Pop ``num`` grid points under N(0, 1)."""
        return self._checked(self._stack.decode(self._grid(step, 0.0, 1 / step), num))

    def push_integers(self, values: Integers, low: int, high: int, mean: float, stddev: float) -> None:
        """Push integers [n] in low .. high, coded under one quantised Gaussian."""
        self._stack.encode_reverse(values, self._models.QuantizedGaussian(low, high, mean, stddev))

    def pop_integers(self, num: int, low: int, high: int, mean: float, stddev: float) -> Integers:
        """Pop ``num`` integers in low .. high under one quantised Gaussian; arbitrary ones if the words run out."""
        integers: Integers = self._stack.decode(self._models.QuantizedGaussian(low, high, mean, stddev), num)
        return integers

    def push_pixels(self, pixels: Pixels, codes: Iterable[PixelCode]) -> None:
        """Push pixels [B, P] under codes in the order of decoding, each as its decisions in a search of its level."""
        decisions = []
        for code in codes:
            level = torch.from_numpy(pixels[:, code.columns].astype(np.int64))
            search = _Search(code, tuple(level.shape))
            for half in search.halves:
                probability = search.probability_of_upper(half)
                upper = level >= search.low + half
                decisions.append((upper.numpy().astype(np.int32).ravel(), probability))
                search.descend(upper, half)
        for upper_half, probability in reversed(decisions):
            self._stack.encode_reverse(upper_half, self._models.Bernoulli(perfect=False), probability)

    def pop_pixels(self, pixels: Pixels, codes: Iterable[PixelCode]) -> None:
        """Pop pixels into ``pixels`` [B, P], those of one code before the next code is requested."""
        for code in codes:
            shape = (len(pixels), len(code.columns))
            search = _Search(code, shape)
            for half in search.halves:
                popped = self._stack.decode(self._models.Bernoulli(perfect=False), search.probability_of_upper(half))
                search.descend(torch.from_numpy(self._checked(popped)).view(shape).bool(), half)
            pixels[:, code.columns] = search.low.clamp(max=code.levels - 1).numpy().astype(np.uint8)

    def _grid(self, step: float, *parameters: float) -> Any:
        limit = round(LATENT_LIMIT / step)
        return self._models.QuantizedGaussian(-limit, limit, *parameters)

    def _checked(self, popped: Integers) -> Integers:
        if self._stack.num_words() < _MIN_WORDS:
            raise ExhaustedError("the coder ran out of words before all examples were decoded")
        return popped


class _Search:
    """A binary search for each pixel's level, which maintains ``low <= pixel < low + width``."""

    def __init__(self, code: PixelCode, shape: tuple[int, ...]) -> None:
        depth = (code.levels - 1).bit_length()
        self.halves = [2**bit for bit in reversed(range(depth))]
        self.low = torch.zeros(shape, dtype=torch.int64)
        self._code = code
        self._below_low = code.counts_below(self.low)
        self._below_high = code.counts_below(torch.full(shape, code.levels))
        self._below_middle = self._below_low

    def probability_of_upper(self, half: int) -> Floats:
        """P(pixel >= low + half | pixel >= low) as a ratio of integers, the same float64 number on every machine."""
        middle = (self.low + half).clamp(max=self._code.levels)
        self._below_middle = self._code.counts_below(middle)
        within = (self._below_high - self._below_low).clamp(min=1).double()
        upper = (self._below_high - self._below_middle).clamp(min=0).double()
        return (upper / within).clamp(max=1.0).numpy().ravel()

    def descend(self, upper: Tensor, half: int) -> None:
        """Continue in the upper half where ``upper`` is True, else in the lower half."""
        self._below_low = torch.where(upper, self._below_middle, self._below_low)
        self._below_high = torch.where(upper, self._below_high, self._below_middle)
        self.low = torch.where(upper, self.low + half, self.low)


def _library() -> Any:
    try:
        import constriction
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "compression needs the package constriction: pip install 'fastvae[compression]'"
        ) from None
    return constriction
