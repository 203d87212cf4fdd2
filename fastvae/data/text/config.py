"""Settings of sentences and their tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fastvae.settings import Settings, setting

TokenizerKind = Literal["words", "bpe"]


@dataclass(frozen=True, kw_only=True)
class TextDataConfig(Settings):
    """How sentences are split into tokens."""

    tokenizer: TokenizerKind = "words"
    """words: words, punctuation marks, and single characters of scripts without spaces; bpe: byte-pair encoding, which
    has no unknown words."""
    vocab_size: int = 20000
    """Largest number of tokens in the vocabulary."""
    min_frequency: int = 2
    """Smallest number of occurrences in the training sentences of a word (or of a pair of pieces, for bpe)."""
    lowercase: bool = False
    """Convert the text to lower case."""
    max_length: int = 60
    """Largest number of tokens per sentence; longer sentences are cut."""
    max_unknown: float = setting(0.3, advanced=True)
    """Largest allowed fraction of unknown tokens in the training sentences, in [0, 1]; more is an error."""

    def __post_init__(self) -> None:
        if self.max_length < 1:
            raise ValueError(f"TextDataConfig: max_length must be at least 1, got {self.max_length}")
        if not 0 <= self.max_unknown <= 1:
            raise ValueError(f"TextDataConfig: max_unknown must be in [0, 1], got {self.max_unknown}")
