"""Beam search: exact if the beam is wide enough, with every network's decoder."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fastvae.data import Data, DataConfig, TextDataConfig, build_data
from fastvae.models import ModelConfig, TextConfig, TextVAE, build_model
from fastvae.models.text.beam import beam_search
from fastvae.records import BEGIN, END, PAD, UNKNOWN, Batch
from tests import corpus

LONGEST = 4
WORDS = range(4, 7)  # three words after the four special IDs


class Table:
    """A synthetic language: log probabilities of the next token given the last one and the sentence's index."""

    def __init__(self, rows: Tensor, log_probs: Tensor) -> None:
        self.rows, self.log_probs = rows, log_probs

    def select(self, rows: Tensor) -> Table:
        return Table(self.rows[rows], self.log_probs)

    def next(self, tokens: Tensor, place: int) -> Tensor:
        scores = self.log_probs[self.rows, tokens].clone()
        scores[:, [PAD, BEGIN, UNKNOWN]] = -torch.inf
        if place == 0:
            scores[:, END] = -torch.inf
        if place >= LONGEST:
            scores[:, :END], scores[:, END + 1 :] = -torch.inf, -torch.inf
        return scores


def table(num: int, seed: int = 0) -> Tensor:
    return torch.randn(num, 7, 7, generator=torch.Generator().manual_seed(seed)).mul(2).log_softmax(2)


def search(log_probs: Tensor, width: int, no_repeat: int = 0) -> list[list[int]]:
    num = len(log_probs)
    state = Table(torch.arange(num).repeat_interleave(width), log_probs)
    ids = beam_search(
        lambda table, tokens, place: (table.next(tokens, place), table),
        state,
        num,
        width=width,
        no_repeat=no_repeat,
        most=LONGEST + 1,
    )
    return [[token for token in row if token != PAD] for row in ids.tolist()]


def exhaustive(log_probs: Tensor, no_repeat: int = 0) -> list[int]:
    def per_token(sentence: tuple[int, ...]) -> float:
        steps = itertools.pairwise((BEGIN, *sentence, END))
        return sum(float(log_probs[a, b]) for a, b in steps) / (len(sentence) + 1)

    def repeats(sentence: tuple[int, ...]) -> bool:
        runs = [sentence[i : i + no_repeat] for i in range(len(sentence) - no_repeat + 1)]
        return no_repeat > 0 and len(set(runs)) < len(runs)

    sentences = (s for length in range(1, LONGEST + 1) for s in itertools.product(WORDS, repeat=length))
    return [*max((s for s in sentences if not repeats(s)), key=per_token), END]


@pytest.mark.parametrize("no_repeat", [0, 1, 2])
def test_a_beam_as_wide_as_the_vocabulary_is_exact(no_repeat: int) -> None:
    log_probs = table(12)
    found = search(log_probs, width=3**LONGEST + 40, no_repeat=no_repeat)
    for number, sentence in enumerate(found):
        assert sentence == exhaustive(log_probs[number], no_repeat), number
    if no_repeat:
        assert found != search(log_probs, width=3**LONGEST + 40)  # the rule has an effect


def test_a_sentence_does_not_depend_on_its_batch() -> None:
    log_probs = table(6, seed=1)
    together = search(log_probs, width=3)
    assert len({tuple(sentence) for sentence in together}) > 1
    for number in range(6):
        assert search(log_probs[number : number + 1], width=3) == [together[number]]
    assert search(log_probs[:0], width=3) == []


def test_a_word_is_repeated_only_if_no_other_is_allowed() -> None:
    log_probs = torch.full((1, 7, 7), -20.0)
    log_probs[:, :, 4] = 0.0  # this language has one word, and ends at the maximum length only
    assert search(log_probs, width=2) == [[4, 4, 4, 4, END]]
    only = log_probs.clone()
    only[:, :, 5:], only[:, :, END] = -torch.inf, -torch.inf
    only[:, 4, END] = -1e5  # less probable than a repetition
    assert search(only, width=2, no_repeat=1) == [[4, 4, 4, 4, END]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    path: Path = corpus.write(tmp_path_factory.mktemp("text") / "moods.tsv", 200)
    return build_data(
        DataConfig(name="file", path=path, condition=("label", "length"), text=TextDataConfig(max_length=12))
    )


def build(data: Data, network: str, **text: int) -> TextVAE:
    text_config = TextConfig(embedding_dim=8, cutoffs=(8,), **text)
    config = ModelConfig(
        family="text", network=network, likelihood="tokens", hidden_dim=(16,), latent_dim=4, text=text_config
    )
    model = build_model(config, data.model_inputs, seed=0).eval()
    assert isinstance(model, TextVAE)
    return model


def log_prob(model: TextVAE, z: Tensor, condition: Tensor, ids: Tensor) -> Tensor:
    """Compute log probabilities of whole sentences [N, T] as in training."""
    batch = Batch(x=ids, target=ids, condition=condition, mask=ids != PAD)
    return model.decode(z, batch).log_prob(ids, mask=ids != PAD)


@pytest.mark.parametrize("network", ["gru", "lstm", "transformer"])
def test_a_wider_beam_finds_more_probable_sentences(data: Data, network: str) -> None:
    assert data.conditions is not None
    condition = data.conditions.vector(label="good", length=6).expand(16, -1)
    z = torch.randn(16, 4, generator=torch.Generator().manual_seed(0)) * 3
    greedy = build(data, network, beam_width=1, no_repeat=0)
    wide = build(data, network, beam_width=12, no_repeat=0)
    first, found = greedy.generate(z, condition), wide.generate(z, condition)
    assert first.shape == found.shape == (16, 7)
    gain = log_prob(wide, z, condition, found) - log_prob(wide, z, condition, first)
    assert float((gain > -1e-4).float().mean()) > 0.8  # a beam may drop the best sentence
    assert float(gain.detach().mean()) > 0.01
    # The decoder's state follows its sentence: separate searches give the same result.
    assert torch.equal(wide.generate(z[3:5], condition[3:5]), found[3:5])
    assert torch.equal(greedy.generate(z, condition, torch.tensor([0, 0, 0]), temperature=1e-5), first)


def test_settings_out_of_range_are_refused() -> None:
    for text in ({"beam_width": 0}, {"no_repeat": -1}):
        with pytest.raises(ValueError, match="beam_width must be at least 1 and no_repeat at least 0"):
            TextConfig(**text)
