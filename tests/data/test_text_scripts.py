"""All scripts: special tokens in a text are ordinary text, unknown tokens are counted, and too many are refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from fastvae.data import DataConfig, TextDataConfig, build_data
from fastvae.data.text.sentences import tokenizer_of
from fastvae.data.text.tokenizer import Tokenizer, TokenizerKind
from fastvae.records import END, UNKNOWN

SPECIAL = ["<pad>", "<begin>", "<end>", "<unknown>"]


@pytest.mark.parametrize("kind", ["words", "bpe"])
@pytest.mark.parametrize("lowercase", [False, True])
def test_special_tokens_in_a_text_are_ordinary_text(kind: TokenizerKind, lowercase: bool) -> None:
    sentences = [f"a {word} b{word}c {word.upper()}" for word in SPECIAL] * 3
    trained = Tokenizer.train(sentences, kind, vocab_size=400, lowercase=lowercase)
    for tokenizer in (trained, Tokenizer.from_bytes(trained.to_bytes())):
        for sentence, ids in zip(sentences, tokenizer.encode(sentences), strict=True):
            assert min(ids) > UNKNOWN
            decoded = tokenizer.decode([[*ids, END]])[0]
            assert decoded.replace(" ", "") == (sentence.lower() if lowercase else sentence).replace(" ", "")


SCRIPTS = {
    "Chinese": ("学生 司机 孩子", "喜欢 看见", "电影\uff01 书本。"),
    "Japanese": ("彼は 犬が", "昨日 コーヒーを", "見た。 歌った。"),
    "Thai": ("แม่ เขา", "กิน เห็น", "ข้าว หนังสือ"),
    "Khmer": ("ខ្ញុំ គាត់", "ស្រឡាញ់ ឃើញ", "សៀវភៅ ភាពយន្ត"),
    "Burmese": ("ကျွန်တော် သူ", "ချစ် မြင်", "စာအုပ် ရုပ်ရှင်"),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_without_spaces_are_encoded_without_unknowns(tmp_path: Path, script: str) -> None:
    parts = [part.split() for part in SCRIPTS[script]]
    sentences = ["".join(words) for words in itertools.product(*parts)] * 4
    path = tmp_path / "a.txt"
    path.write_text("\n".join(sentences) + "\n", encoding="utf-8")
    data = build_data(DataConfig(name="file", path=path))
    assert "0.0% unknown" in data.notes[0]
    rows = data.train[torch.arange(len(data.train))]
    assert tokenizer_of(data).decode(rows.tolist()) == [text for row, text in enumerate(sentences) if row % 10]
    assert tokenizer_of(data).decode(tokenizer_of(data).encode([sentences[0] + " ok, yes"])) != [""]


def test_word_tokens_are_unchanged() -> None:
    scripts = "\u0623\u0646\u0627 \u092e\u0948\u0902 \U0001f44d\U0001f3fd"
    text = f"the k-19's u.s. x_1 caf\u00e9 'tis \u00abno\u00bb {scripts}"
    tokenizer = Tokenizer.train([text] * 2)
    expected = f"the k-19's u.s . x_1 caf\u00e9 'tis \u00ab no \u00bb {scripts}"
    assert tokenizer.decode(tokenizer.encode([text])) == [expected]
    mixed = Tokenizer.train(["iPhone手机 2台"] * 2)
    assert mixed.decode(mixed.encode(["iPhone手机 2台"])) == ["iPhone 手机 2 台"]


def words(path: Path, num_unique: int, num_known: int) -> Path:
    lines = [f"word{number} " + " ".join(["the same"] * num_known) for number in range(num_unique)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_the_fraction_of_unknown_tokens_is_reported_and_limited(tmp_path: Path) -> None:
    few = build_data(DataConfig(name="file", path=words(tmp_path / "few.txt", 40, 2)))
    assert few.notes == ("file: 36 training sentences, 180 tokens, 6 different ones, 20.0% unknown",)
    path = words(tmp_path / "many.txt", 40, 1)
    with pytest.raises(
        ValueError, match=r"33% of the 108 training tokens are unknown, the limit is 30% .*'word1 the same'"
    ):
        build_data(DataConfig(name="file", path=path))
    for text in (TextDataConfig(max_unknown=0.4), TextDataConfig(tokenizer="bpe", vocab_size=400)):
        data = build_data(DataConfig(name="file", path=path, text=text))
    assert "0.0% unknown" in data.notes[0]
    kept = build_data(DataConfig(name="file", path=path), state=data.state)  # a finished run still reads its data
    assert kept.notes == ()


def test_truncated_sentences_are_counted(tmp_path: Path) -> None:
    path = words(tmp_path / "a.txt", 20, 4)
    data = build_data(DataConfig(name="file", path=path, text=TextDataConfig(max_length=5)))
    assert "18 sentences cut to 5 (--data.text.max-length)" in data.notes[0]


def test_max_unknown_must_be_a_fraction() -> None:
    with pytest.raises(ValueError, match=r"max_unknown must be in \[0, 1\], got 30"):
        TextDataConfig(max_unknown=30)
