"""How sentences become tokens, as a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fastvae.settings import Settings

TokenizerKind = Literal["words", "bpe"]


@dataclass(frozen=True, kw_only=True)
class TextDataConfig(Settings):
    """How sentences become tokens."""

    tokenizer: TokenizerKind = "words"
    """words: words and punctuation marks, and the letters of scripts without spaces; bpe: pieces of words, which know
    every text."""
    vocab_size: int = 20000
    """The most tokens."""
    min_frequency: int = 2
    """Words (or pairs of pieces) that the training sentences hold less often are left out."""
    lowercase: bool = False
    """Take upper and lower case as one."""
    max_length: int = 60
    """Tokens that a longer sentence is cut to."""
    max_unknown: float = 0.3
    """The largest part of the training sentences' tokens that may be unknown, in [0, 1]; more is refused."""

    def __post_init__(self) -> None:
        if self.max_length < 1:
            raise ValueError(f"TextDataConfig: max_length must be at least 1, got {self.max_length}")
        if not 0 <= self.max_unknown <= 1:
            raise ValueError(f"TextDataConfig: max_unknown must be in [0, 1], got {self.max_unknown}")
