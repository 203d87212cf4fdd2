"""Sentences: tokenisation and its inverse, files, lengths, and batches of similar lengths."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from fastvae.data import DataConfig, Loader, TextDataConfig, build_data, evaluation_batches, order_index
from fastvae.data.order import BUCKET_WINDOW, bucketed_order
from fastvae.data.text.corpus import read_sentences
from fastvae.data.text.sentences import TextSource
from fastvae.data.text.tokenizer import Tokenizer, TokenizerKind
from fastvae.records import END, PAD, UNKNOWN
from tests import corpus

SENTENCES = [text for _, text in corpus.rows(200)]


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_a_tokenizer_is_reversible_and_can_be_saved(kind: TokenizerKind) -> None:
    tokenizer = Tokenizer.train(SENTENCES, kind, vocab_size=300)
    again = Tokenizer.from_bytes(tokenizer.to_bytes())
    ids = tokenizer.encode(SENTENCES)
    assert tokenizer.decode(ids) == SENTENCES
    assert again.encode(SENTENCES) == ids
    assert Tokenizer.train(SENTENCES, kind, vocab_size=300).to_bytes() == tokenizer.to_bytes()
    assert all(UNKNOWN < number < len(tokenizer) for row in ids for number in row)


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_ids_are_in_decreasing_order_of_frequency(kind: TokenizerKind) -> None:
    sentences = [*SENTENCES, "<end> is text", "<end> is text"]
    tokenizer = Tokenizer.train(sentences, kind, vocab_size=300)
    counts = Counter(number for row in tokenizer.encode(sentences) for number in row)
    assert counts.keys().isdisjoint({PAD, END})
    frequencies = [counts[number] for number in range(UNKNOWN + 1, len(tokenizer))]
    assert frequencies == sorted(frequencies, reverse=True)
    assert frequencies[0] > 20


def test_words_and_clitics_are_tokens_and_unknown_words_are_marked() -> None:
    tokenizer = Tokenizer.train(["you 've seen k-19 , have n't you ?"] * 2, lowercase=True)
    (ids,) = tokenizer.encode(["You 've seen k-19, HAVE n't you? maybe"])
    assert tokenizer.decode([[*ids, END, ids[0], PAD]]) == ["you 've seen k-19 , have n't you ? <unknown>"]


def test_byte_pairs_encode_every_text() -> None:
    tokenizer = Tokenizer.train(SENTENCES, "bpe", vocab_size=280)
    strange = "crème brûlée 🎬 \t x"
    assert tokenizer.decode(tokenizer.encode([strange])) == [strange]


@pytest.mark.parametrize(
    ("sentences", "options", "message"),
    [
        (["once upon a time"], {"min_frequency": 2}, "lower min_frequency"),
        (["a a"], {"vocab_size": 4}, "vocab_size at least 5"),
        (["a a"], {"kind": "letters"}, "kind must be one of words, bpe"),
    ],
)
def test_unsuitable_tokenizer_settings_are_refused(sentences: list[str], options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tokenizer.train(sentences, **options)


def test_a_damaged_tokenizer_is_refused() -> None:
    with pytest.raises(ValueError, match="must be a tokenizer's JSON"):
        Tokenizer.from_bytes(b"\x80\x04pickle")


def test_a_source_pads_batches_and_truncates_long_sentences() -> None:
    source = TextSource([[5], [6, 7, 8, 9], [10, 11]], max_length=3)
    assert source[torch.tensor([2, 0])].tolist() == [[10, 11, END], [5, END, PAD]]
    assert source[torch.tensor([1])].tolist() == [[6, 7, 8, END]]
    assert source[torch.tensor([], dtype=torch.int64)].shape == (0, 1)
    with pytest.raises(ValueError, match="at least one token"):
        TextSource([[5], []], max_length=3)


def test_a_users_sentences_are_split_labelled_and_conditioned(tmp_path: Path) -> None:
    path = corpus.write(tmp_path / "moods.tsv", 100)
    config = DataConfig(name="file", path=path, condition=("label", "length"), text=TextDataConfig(max_length=8))
    data = build_data(config)
    assert (data.kind, data.label_names, len(data.train), len(data.test)) == ("text", ("bad", "good"), 90, 10)
    assert data.conditions is not None
    batch = next(evaluation_batches(data.test, data.preprocess, batch_size=4, seed=0)).batch
    text = [row[1] for row in corpus.rows(100)][:40:10]
    assert data.preprocess.tokenizer.decode(batch.x.tolist()) == text
    expected = [data.conditions.vector(label="good", length=len(words.split())) for words in text]
    assert batch.condition is not None
    assert torch.equal(batch.condition, torch.stack(expected))
    assert batch.lengths is not None
    assert batch.mask is not None
    assert torch.equal(batch.lengths, batch.mask.sum(1))
    with pytest.raises(ValueError, match="length must be one of 1 to 8"):
        data.conditions.vector(label="good", length=9)


def test_a_saved_tokenizer_is_used_on_other_sentences(tmp_path: Path) -> None:
    config = DataConfig(name="file", path=corpus.write(tmp_path / "a.tsv", 100))
    kept = build_data(config).state
    (tmp_path / "b.txt").write_text("quite other words\n" * 4, encoding="utf-8")
    other = build_data(DataConfig(name="file", path=tmp_path / "b.txt"), state=kept)
    assert other.state["tokenizer.json"] == kept["tokenizer.json"]
    assert other.train[torch.tensor([0])].tolist() == [[UNKNOWN, UNKNOWN, UNKNOWN, END]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", b"x\tsentence\nonly one\n", "a.tsv, line 2: must have 2 columns"),
        ("a.txt", b"\n \n", "at least one sentence"),
        ("a.txt", b"caf\xe9\n", "must be UTF-8"),
        ("a.tsv", b"one\ttwo\n", "must name a column sentence"),
    ],
)
def test_an_invalid_file_is_a_one_line_error(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_sentences(tmp_path / name)
    assert "\n" not in str(error.value)


def test_windows_contain_the_examples_of_the_stream_and_batches_similar_lengths() -> None:
    lengths = torch.randint(1, 40, (1000,), generator=torch.Generator().manual_seed(1))
    size = BUCKET_WINDOW * 8
    for window in (0, 3):
        batches = bucketed_order(window, lengths, 8, seed=5)
        stream = order_index(window * size + torch.arange(size), 1000, 5)
        assert torch.equal(batches.flatten().sort().values, stream.sort().values)
        spread = lengths[batches].amax(1) - lengths[batches].amin(1)
        assert float(spread.float().mean()) < 2
        means = lengths[batches].float().mean(1)
        assert not torch.equal(means, means.sort().values)
    assert not torch.equal(bucketed_order(0, lengths, 8, seed=5), bucketed_order(0, lengths, 8, seed=6))


def test_buckets_do_not_depend_on_split_and_start(tmp_path: Path) -> None:
    data = build_data(DataConfig(name="file", path=corpus.write(tmp_path / "a.tsv", 300)))

    def rows(step: int, world_size: int, accumulation: int) -> list[int]:
        found: list[int] = []
        for rank in range(world_size):
            loader = Loader(
                data.train,
                data.preprocess,
                global_batch_size=12,
                seed=3,
                rank=rank,
                world_size=world_size,
                accumulation=accumulation,
            )
            for micro in loader.load(step):
                assert micro.batch.rows is not None
                found += micro.batch.rows.tolist()
        return found

    for step in (0, 63, 64, 130):
        assert rows(step, 1, 1) == rows(step, 2, 3) == rows(step, 5, 4)
