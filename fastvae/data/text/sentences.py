"""Sentences as token ids, with lengths, labels and the batch that a text model reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastvae.data.condition import LengthField
from fastvae.data.config import DataConfig
from fastvae.data.dataset import Data, State
from fastvae.data.objects import texts_of
from fastvae.data.source import Source
from fastvae.data.text.config import TextDataConfig
from fastvae.data.text.corpus import Corpus, find_folder, read_sentences
from fastvae.data.text.tokenizer import Tokenizer
from fastvae.model_inputs import ModelInputs
from fastvae.records import END, PAD, UNKNOWN, Batch

TOKENIZER_FILE = "tokenizer.json"
LABELS_FILE = "labels.json"


class TextSource(Source):
    """Sentences as token ids in one flat tensor: ``source[indices]`` is int64 ``[B, T]``, T the longest of them.

    A row is a sentence, ``END``, and ``PAD`` up to T.

    Args:
        ids: the token ids of each sentence, none empty.
        labels: int64 ``[N]``, or None.
        max_length: largest number of tokens per sentence, not counting its end.

    Raises:
        ValueError: no sentences, or an empty one.
    """

    def __init__(self, ids: Sequence[Sequence[int]], labels: Tensor | None = None, *, max_length: int) -> None:
        lengths = torch.tensor([min(len(row), max_length) for row in ids], dtype=torch.int64)
        if not len(lengths) or int(lengths.min()) < 1:
            raise ValueError("TextSource: there must be sentences of at least one token each; drop the empty ones")
        self.event_shape, self.dtype, self.levels = (max_length + 1,), torch.int64, None
        self.lengths: Tensor = lengths  # [N] tokens of each sentence, not counting its end
        self._labels = labels
        self._first = torch.cat((torch.zeros(1, dtype=torch.int64), (lengths + 1).cumsum(0)))
        flat = [number for row in ids for number in (*row[:max_length], END)]
        self._tokens = torch.tensor(flat, dtype=torch.int32)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, indices: Tensor) -> Tensor:
        lengths = self.lengths[indices] + 1
        steps = torch.arange(int(lengths.max()) if len(lengths) else 1)
        places = (self._first[indices].unsqueeze(1) + steps).clamp(max=len(self._tokens) - 1)
        return torch.where(steps < lengths.unsqueeze(1), self._tokens[places].to(torch.int64), PAD)

    @property
    def labels(self) -> Tensor | None:
        """int64 ``[N]``, or None."""
        return self._labels

    def attribute(self, name: str) -> Tensor | None:
        """The labels under "label", and under "length" the index of the length among 1, 2, ..."""
        return self.lengths - 1 if name == "length" else super().attribute(name)


@dataclass(frozen=True)
class TextPreprocess:
    """Token ids as a batch: input and target, the mask that excludes padding, and the lengths."""

    tokenizer: Tokenizer

    def __call__(self, raw: Tensor, key: Tensor, *, indices: Tensor, evaluation: bool) -> Batch:
        """The batch: x and target int64 [B, T], mask bool [B, T], lengths int64 [B] with each sentence's end."""
        mask = raw != PAD
        return Batch(x=raw, target=raw, mask=mask, lengths=mask.sum(1), rows=indices.to(raw.device))

    def log_jacobian_nats(self, event_numel: int) -> float | None:
        """None: sentences differ in length, so bits per dimension are not defined."""
        return None

    def mean(self, raw: Tensor) -> Tensor | None:
        """None: tokens have no mean."""
        return None


def load_sentences(config: DataConfig, seed: int, state: State) -> Data:
    """Load a user's sentences, one per line or in a TSV with a header; every ``test_every``-th is for testing.

    Raises:
        ValueError: the file is not such text, or too short.
    """
    assert config.path is not None  # checked by build_data
    corpus = read_sentences(config.path.expanduser())
    rows = range(len(corpus.sentences))
    if len(rows) < 2:
        raise ValueError(f"{config.path}: at least two sentences are needed, one of them to test, got {len(rows)}")
    train = corpus.take([row for row in rows if row % config.test_every])
    test = corpus.take(rows[:: config.test_every])
    return text_data(config.name, train, test, config.text, state)


def load_sst2(config: DataConfig, seed: int, state: State) -> Data:
    """The phrases and sentences of SST-2 (Socher et al. 2013), labelled negative or positive.

    Raises:
        ValueError: the files are not found in any of the folders.
    """
    folder = find_folder(config.dir, ("sst2_glue", "SST-2"), "train.tsv")
    train, test = (read_sentences(folder / f"{part}.tsv") for part in ("train", "test"))
    data = text_data(config.name, train, test, config.text, state)
    if data.label_names != ("0", "1"):
        raise ValueError(f"{folder}: labels must be 0 and 1, got {data.label_names}")
    return replace(data, label_names=("negative", "positive"))


def read_text(path: Path, config: DataConfig, state: State) -> TextSource:
    """All sentences of a file in its order, as tokens of a finished run.

    Raises:
        ValueError: the file is not text, has unknown labels or a blank line (examples are numbered by line).
    """
    tokenizer = Tokenizer.from_bytes(state[TOKENIZER_FILE])
    names = json.loads(state[LABELS_FILE])
    return _source(str(path), read_sentences(path, blank_lines=False), tokenizer, names, config.text.max_length)


def read_texts(texts: Any, name: str, config: DataConfig, data: Data) -> TextSource:
    """A list, array or column of sentences, as tokens of a finished run.

    Raises:
        ValueError: an empty sentence.
        TypeError: something else than texts.
    """
    sentences = texts_of(texts)
    if sentences is None:
        raise TypeError(
            f"{name}: a run on text takes a list of sentences, got {type(texts).__name__}; of a DataFrame give the"
            " column, such as frame['text']"
        )
    stripped = tuple(sentence.strip() for sentence in sentences)
    if "" in stripped:
        raise ValueError(f"{name}: sentence {stripped.index('')} is empty; leave it out")
    return _source(name, Corpus(stripped), tokenizer_of(data), data.label_names, config.text.max_length)


def restored_preprocess(state: State) -> TextPreprocess:
    """Restore the preprocessing of a run from its tokenizer."""
    return TextPreprocess(Tokenizer.from_bytes(state[TOKENIZER_FILE]))


def text_data(name: str, train: Corpus, test: Corpus, config: TextDataConfig, state: State | None = None) -> Data:
    """The data of a corpus, with a tokenizer that is trained on its training part or taken from ``state``."""
    kept = (state or {}).get(TOKENIZER_FILE)
    tokenizer = (
        Tokenizer.from_bytes(kept)
        if kept is not None
        else Tokenizer.train(
            train.sentences,
            config.tokenizer,
            vocab_size=config.vocab_size,
            min_frequency=config.min_frequency,
            lowercase=config.lowercase,
        )
    )
    names = None if train.labels is None else tuple(sorted(set(train.labels)))
    notes = () if kept is not None else (_check_known(name, train, tokenizer, config),)
    source = _source(f"{name} (train)", train, tokenizer, names, config.max_length)
    lengths = tuple(str(length + 1) for length in range(config.max_length))
    # An odd number of them, so that cycling through them meets both of two labels.
    usual = source.lengths.to(torch.float32).quantile(torch.linspace(0.3, 0.9, 7)).long().tolist()
    return Data(
        name=name,
        train=source,
        test=_source(f"{name} (test)", test, tokenizer, names, config.max_length),
        preprocess=TextPreprocess(tokenizer),
        kind="text",
        label_names=names,
        fields=(LengthField("length", lengths, tuple(usual)),),
        inputs=ModelInputs(event_shape=source.event_shape, num_tokens=len(tokenizer)),
        state={TOKENIZER_FILE: tokenizer.to_bytes(), LABELS_FILE: json.dumps(names).encode()},
        notes=notes,
    )


def _check_known(name: str, corpus: Corpus, tokenizer: Tokenizer, config: TextDataConfig) -> str:
    """Describe the vocabulary and unknown tokens; ValueError if too many are unknown."""
    ids = tokenizer.encode(corpus.sentences)
    num_tokens = sum(map(len, ids))
    num_unknown = sum(row.count(UNKNOWN) for row in ids)
    num_cut = sum(len(row) > config.max_length for row in ids)
    if num_unknown > config.max_unknown * num_tokens:
        first = next(number for number, row in enumerate(ids) if UNKNOWN in row)
        raise ValueError(
            f"{name}: {num_unknown / num_tokens:.0%} of the {num_tokens:,} training tokens are unknown, the limit is"
            f" {config.max_unknown:.0%} (--data.text.max-unknown); the first is in {corpus.sentences[first][:60]!r};"
            " use byte pairs (--data.text.tokenizer bpe), which have no unknown tokens, or lower"
            " --data.text.min-frequency"
        )
    cut = f", {num_cut:,} sentences cut to {config.max_length} (--data.text.max-length)" if num_cut else ""
    return (
        f"{name}: {len(ids):,} training sentences, {num_tokens:,} tokens, {len(tokenizer):,} different ones,"
        f" {num_unknown / max(num_tokens, 1):.1%} unknown{cut}"
    )


def tokenizer_of(data: Data) -> Tokenizer:
    """The tokenizer of sentences' data.

    Raises:
        TypeError: the data are not sentences.
    """
    if not isinstance(data.preprocess, TextPreprocess):
        raise TypeError(f"{data.name}: must be sentences, which have a tokenizer, got data of kind {data.kind}")
    return data.preprocess.tokenizer


def _source(
    where: str, corpus: Corpus, tokenizer: Tokenizer, names: tuple[str, ...] | None, longest: int
) -> TextSource:
    labels = None
    if names is not None and corpus.labels is not None:
        unknown = set(corpus.labels) - set(names)
        if unknown:
            raise ValueError(f"{where}: label {sorted(unknown)[0]!r} is not among the training labels {list(names)}")
        labels = torch.tensor([names.index(label) for label in corpus.labels])
    return TextSource(tokenizer.encode(corpus.sentences), labels, max_length=longest)
