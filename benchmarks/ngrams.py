"""An n-gram model with interpolated Kneser-Ney smoothing: the rival of the sentences, and the judge of samples."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

Gram = tuple[int, ...]

_BEGIN = -1  # before the first token of a sentence


class KneserNey:
    """An n-gram model of token IDs with interpolated Kneser-Ney smoothing (Chen and Goodman 1999, section 3.7).

    Each order has one absolute discount, n1 / (n1 + 2 n2), from the number of its n-grams that occur once and twice.
    Lower orders count the contexts of an n-gram instead of its occurrences; the lowest is mixed with a uniform
    distribution over the vocabulary.

    Args:
        sentences: IDs of the training sentences, each with its end token.
        num_tokens: V, size of the vocabulary, which includes the end token.
        order: n.

    Raises:
        ValueError: no sentences, or an order below 1.
    """

    def __init__(self, sentences: Sequence[Sequence[int]], num_tokens: int, *, order: int = 4) -> None:
        if not sentences or order < 1:
            raise ValueError(
                f"KneserNey: sentences and an order of at least 1 are required, got {len(sentences)}, {order}"
            )
        self.num_tokens, self.order = num_tokens, order
        counts = Counter(gram for row in sentences for gram in _grams(row, order))
        self._levels = [_Level(counts)]
        for _ in range(order - 1):
            counts = Counter(gram[1:] for gram in counts)
            self._levels.append(_Level(counts))

    def probability(self, context: Gram, token: int) -> float:
        """Probability of a token given the ``order - 1`` tokens before it."""
        probability = 1 / self.num_tokens
        for dropped, level in reversed(list(enumerate(self._levels))):
            probability = level.interpolate(context[dropped:], token, probability)
        return probability

    def nll(self, sentence: Sequence[int]) -> float:
        """Negative log likelihood of a sentence with its end token, in nats."""
        return -sum(math.log(self.probability(gram[:-1], gram[-1])) for gram in _grams(sentence, self.order))

    def perplexity(self, sentences: Sequence[Sequence[int]]) -> float:
        """Perplexity per token, end tokens included."""
        return math.exp(sum(map(self.nll, sentences)) / sum(map(len, sentences)))


class _Level:
    """The n-grams of one order: their counts, the total and the number of different ones of each context."""

    def __init__(self, counts: Counter[Gram]) -> None:
        self.counts = counts
        self.totals: Counter[Gram] = Counter()
        self.kinds: Counter[Gram] = Counter()
        for gram, count in counts.items():
            self.totals[gram[:-1]] += count
            self.kinds[gram[:-1]] += 1
        once, twice = (sum(count == number for count in counts.values()) for number in (1, 2))
        self.discount = once / (once + 2 * twice) if once else 0.5

    def interpolate(self, context: Gram, token: int, lower: float) -> float:
        """Mix the discounted frequency of a token with its probability in the lower order."""
        total = self.totals[context]
        if not total:
            return lower
        left = max(self.counts[(*context, token)] - self.discount, 0.0)
        return (left + self.discount * self.kinds[context] * lower) / total


def _grams(sentence: Sequence[int], order: int) -> list[Gram]:
    """The n-gram that ends at each token of a sentence."""
    padded = (*[_BEGIN] * (order - 1), *sentence)
    return [tuple(padded[end - order : end]) for end in range(order, len(padded) + 1)]
