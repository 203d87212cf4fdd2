"""Tokenizers: conversion between sentences and token IDs, trained on the corpus and saved with the run as JSON."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, get_args

from fastvae.data.text.config import TokenizerKind
from fastvae.records import BEGIN, END, PAD, UNKNOWN

if TYPE_CHECKING:
    import tokenizers

_SPECIAL = {PAD: "<pad>", BEGIN: "<begin>", END: "<end>", UNKNOWN: "<unknown>"}

# Scripts that do not separate words: each of their letters, with its marks, is a token.
_SCRIPTS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
_LETTER = rf"[\w&&[^{_SCRIPTS}]]"
# One of those letters; a word with its inner hyphens, dots and apostrophes (k-19, n't, u.s); a clitic ('ve); or a run
# of punctuation.
_WORD = rf"[{_SCRIPTS}][\p{{M}}\u30fc]*|{_LETTER}+(?:[-.'\u2019&]{_LETTER}+)*|['\u2019]{_LETTER}+|[^\w\s]+"
# The same scripts and their punctuation, as a Python pattern: no space between two of these.
_UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3001-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\U00020000-\U0003ffff"
)
_GAP = re.compile(rf"(?<=[{_UNSPACED}]) (?=[{_UNSPACED}])")


class Tokenizer:
    """Convert sentences to token IDs and back.

    IDs 0 to 3 are ``PAD``, ``BEGIN``, ``END`` and ``UNKNOWN`` of `fastvae.records`; a trained tokenizer's others are in
    decreasing order of their frequency in the corpus, as an adaptive softmax needs them.

    Args:
        backend: a tokenizer of the ``tokenizers`` library whose first ids are those four.

    Raises:
        ValueError: its first ids are others.
    """

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        if any(backend.id_to_token(number) != token for number, token in _SPECIAL.items()):
            raise ValueError(f"Tokenizer: ids 0 to 3 must be {', '.join(_SPECIAL.values())}; train one with fastvae")
        backend.encode_special_tokens = True  # a text's own "<end>" is text
        self._backend = backend

    @classmethod
    def train(
        cls,
        sentences: Iterable[str],
        kind: TokenizerKind = "words",
        *,
        vocab_size: int = 20000,
        min_frequency: int = 2,
        lowercase: bool = False,
    ) -> Tokenizer:
        """A tokenizer of the words, or of the byte pairs (Sennrich et al. 2016, arXiv 1508.07909), of a corpus.

        Args:
            sentences: the corpus.
            kind: "words" and punctuation marks; or "bpe", byte pairs, which have no unknown tokens.
            vocab_size: largest number of tokens, including the four special ones.
            min_frequency: smallest number of occurrences of a word or pair.
            lowercase: whether to convert text to lower case.

        Raises:
            ValueError: an unknown kind, a vocabulary without room for text, or a corpus without a word.
            ModuleNotFoundError: the ``tokenizers`` library is missing.
        """
        smallest = len(_SPECIAL) + (256 if kind == "bpe" else 1)
        if kind not in get_args(TokenizerKind) or vocab_size < smallest or min_frequency < 1:
            raise ValueError(
                f"Tokenizer: kind must be one of {', '.join(get_args(TokenizerKind))}, vocab_size at least {smallest}"
                f" and min_frequency at least 1, got {kind!r}, {vocab_size} and {min_frequency}"
            )
        options = {"vocab_size": vocab_size, "min_frequency": min_frequency, "show_progress": False}
        library = _library()
        backend, trainer = _words(library, options) if kind == "words" else _byte_pairs(library, options)
        changes = [library.normalizers.NFC(), *([library.normalizers.Lowercase()] if lowercase else [])]
        backend.normalizer = library.normalizers.Sequence(changes)
        sentences = list(sentences)
        backend.train_from_iterator(sentences, trainer)
        if backend.get_vocab_size() == len(_SPECIAL):
            raise ValueError(
                f"Tokenizer: the corpus must contain a word that occurs {min_frequency} times, found none;"
                " lower min_frequency or give more text"
            )
        tokenizer = cls(backend)
        if kind == "bpe":
            backend.model = _by_frequency(library, backend, sentences)
        return tokenizer

    @classmethod
    def from_bytes(cls, data: bytes) -> Tokenizer:
        """Read the result of `to_bytes`.

        Raises:
            ValueError: it is not the JSON of a tokenizer.
        """
        try:
            return cls(_library().Tokenizer.from_buffer(data))
        except ValueError as error:
            raise ValueError(f"Tokenizer: the data must be a tokenizer's JSON: {error}") from None

    def to_bytes(self) -> bytes:
        """Return the tokenizer as JSON."""
        return self._backend.to_str(pretty=True).encode()

    def __len__(self) -> int:
        """Number of IDs, V."""
        return self._backend.get_vocab_size()

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """Return the token IDs of each sentence, without begin and end."""
        return [encoding.ids for encoding in self._backend.encode_batch(list(sentences), add_special_tokens=False)]

    def decode(self, ids: Iterable[Sequence[int]]) -> list[str]:
        """Decode each row of IDs: the tokens before its first ``END``, without ``PAD`` and ``BEGIN``."""
        # Unknown words are kept, so that they are visible.
        texts = (self._backend.decode(_content(row), skip_special_tokens=False) for row in ids)
        return list(texts) if self._backend.decoder is not None else [_GAP.sub("", text) for text in texts]


def _words(library: ModuleType, options: dict[str, Any]) -> tuple[Any, Any]:
    """An untrained tokenizer of words, and what trains it."""
    backend = library.Tokenizer(library.models.WordLevel(unk_token=_SPECIAL[UNKNOWN]))
    backend.pre_tokenizer = library.pre_tokenizers.Split(library.Regex(_WORD), "removed", invert=True)
    return backend, library.trainers.WordLevelTrainer(special_tokens=list(_SPECIAL.values()), **options)


def _byte_pairs(library: ModuleType, options: dict[str, Any]) -> tuple[Any, Any]:
    """An untrained tokenizer of byte pairs, and what trains it."""
    backend = library.Tokenizer(library.models.BPE())
    backend.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = library.decoders.ByteLevel()
    alphabet = library.pre_tokenizers.ByteLevel.alphabet()
    special = list(_SPECIAL.values())
    return backend, library.trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet, **options)


def _by_frequency(library: ModuleType, backend: Any, sentences: list[str]) -> Any:
    """The trained byte pairs of a tokenizer with IDs in decreasing order of their frequency in the sentences."""
    model = json.loads(backend.to_str())["model"]
    encodings = backend.encode_batch(sentences, add_special_tokens=False)
    counts = Counter(number for encoding in encodings for number in encoding.ids)
    ranks = sorted(model["vocab"].values(), key=lambda number: (number not in _SPECIAL, -counts[number], number))
    numbers = {number: rank for rank, number in enumerate(ranks)}
    vocabulary = {piece: numbers[number] for piece, number in model["vocab"].items()}
    return library.models.BPE(vocabulary, [tuple(merge) for merge in model["merges"]])


def _library() -> ModuleType:
    try:
        import tokenizers
    except ModuleNotFoundError:
        raise ModuleNotFoundError("text requires the tokenizers library: pip install 'fastvae[text]'") from None
    return tokenizers


def _content(row: Sequence[int]) -> list[int]:
    ids = list(row)
    ids = ids[: ids.index(END)] if END in ids else ids
    return [number for number in ids if number not in (PAD, BEGIN)]
