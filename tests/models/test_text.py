"""VAEs of sentences: bounds, generation of an exact length, and independence of padding and split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fastvae import noise_key
from fastvae.data import Data, DataConfig, Loader, TextDataConfig, build_data
from fastvae.models import ModelConfig, ModelInputs, TextConfig, TextVAE, build_model
from fastvae.records import BEGIN, END, PAD, UNKNOWN, Batch, Draw
from tests import corpus

NETWORKS = ["gru", "lstm", "transformer"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    path = corpus.write(tmp_path_factory.mktemp("text") / "moods.tsv", 400)
    return build_data(
        DataConfig(name="file", path=path, condition=("label", "length"), text=TextDataConfig(max_length=12))
    )


def build(data: Data, network: str = "gru", **text: object) -> TextVAE:
    config = ModelConfig(
        family="text",
        network=network,
        likelihood="tokens",
        hidden_dim=(16,),
        latent_dim=4,
        text=TextConfig(embedding_dim=8, cutoffs=(8,), **text),
    )
    assert data.conditions is not None
    model = build_model(config, data.model_inputs, seed=0)
    assert isinstance(model, TextVAE)
    return model


def first_batch(data: Data, rows: int = 16) -> Batch:
    return Loader(data.train, data.preprocess, global_batch_size=rows, seed=1).load(0)[0].batch


def padded(batch: Batch, steps: int) -> Batch:
    ids = torch.nn.functional.pad(batch.x, (0, steps), value=PAD)
    return replace(batch, x=ids, target=ids, mask=ids != PAD)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_score_does_not_depend_on_padding_and_batch(data: Data, network: str) -> None:
    model, batch, key = build(data, network).eval(), first_batch(data), noise_key(0)
    longer = padded(batch, 13 - batch.x.shape[1])  # a Transformer has no further positions
    for samples in (1, 3):
        whole, other = (model(b, key, Draw(samples, evaluation=True)) for b in (batch, longer))
        torch.testing.assert_close(whole.distortion, other.distortion)
        torch.testing.assert_close(whole.rate, other.rate)
    parts = {f: getattr(batch, f)[4:8] for f in ("x", "target", "condition", "mask", "lengths")}
    alone = model(Batch(**parts), noise_key(0, 0, 4), Draw(evaluation=True))
    torch.testing.assert_close(alone.distortion, model(batch, key, Draw(evaluation=True)).distortion[4:8])


@pytest.mark.parametrize("network", NETWORKS)
def test_the_distortion_is_the_sum_over_tokens_given_previous_ones(data: Data, network: str) -> None:
    model, batch = build(data, network).eval(), first_batch(data, 3)
    terms = model(batch, noise_key(0), Draw(evaluation=True))
    state = model.decoder.start(terms.z, batch.condition)
    tokens, nats = torch.full((3,), BEGIN), torch.zeros(3)
    for target in batch.target.unbind(1):
        features, state = model.decoder.step(state, tokens)
        scores = model.likelihood.log_probs(features).gather(1, target.unsqueeze(1)).squeeze(1)
        nats = nats - scores.masked_fill(target == PAD, 0.0)
        tokens = target
    torch.testing.assert_close(terms.distortion, nats)


@pytest.mark.parametrize("network", NETWORKS)
def test_sentences_have_the_requested_length(data: Data, network: str) -> None:
    model = build(data, network)
    assert data.conditions is not None
    for length in (1, 5, 12):
        condition = data.conditions.vector(label="good", length=length)
        for ids in (model.sample(6, noise_key(2), condition=condition), model.generate(torch.randn(6, 4), condition)):
            assert ids.shape == (6, length + 1)
            assert (ids[:, -1] == END).all()
            assert not torch.isin(ids[:, :-1], torch.tensor([PAD, BEGIN, END, UNKNOWN])).any()
    ends = [data.conditions.vector(label="bad", length=length) for length in (3, 8)]
    between = [torch.lerp(ends[0], ends[1], weight) for weight in (0.0, 0.2, 0.6, 1.0)]
    assert model.generate(torch.zeros(4, 4), torch.stack(between)).ne(PAD).sum(1).tolist() == [4, 5, 7, 9]
    mixed = torch.stack([data.conditions.vector(label="bad", length=length) for length in (2, 7)])
    assert model.generate(torch.zeros(2, 4), mixed).ne(PAD).sum(1).tolist() == [3, 8]


def test_sentences_without_a_requested_length_end_by_the_maximum(tmp_path: Path) -> None:
    data = build_data(DataConfig(name="file", path=corpus.write(tmp_path / "a.tsv", 60), condition=("label",)))
    model = build(data)
    ids = model.sample(64, noise_key(1), condition=torch.tensor([1.0, 0.0]))
    lengths = ids.ne(PAD).sum(1) - 1
    assert len(lengths.unique()) > 5
    assert int(lengths.min()) >= 1
    assert int(lengths.max()) <= 60
    assert (ids.gather(1, lengths.unsqueeze(1)) == END).all()


def test_samples_depend_on_key_and_row(data: Data) -> None:
    model = build(data)
    assert data.conditions is not None
    condition = data.conditions.vector(label="good", length=6)
    before = torch.get_rng_state()
    ids = model.sample(8, noise_key(3), condition=condition)
    assert torch.equal(ids, model.sample(8, noise_key(3), condition=condition))
    assert torch.equal(ids[5:], model.sample(3, noise_key(3, 0, 5), condition=condition))
    assert not torch.equal(ids, model.sample(8, noise_key(4), condition=condition))
    z = torch.randn(1, 4, generator=torch.Generator().manual_seed(0)).expand(8, 4)
    likeliest = model.generate(z, condition)
    assert torch.equal(likeliest, likeliest[:1].expand_as(likeliest))
    assert not torch.equal(model.generate(z, condition, noise_key(3)), likeliest)
    assert torch.equal(before, torch.get_rng_state())


def test_words_are_dropped_in_training_only(data: Data) -> None:
    model, plain, batch = build(data, word_dropout=0.6), build(data), first_batch(data)
    key = noise_key(0, 1)
    assert torch.equal(model(batch, key).rate, plain(batch, key).rate)  # the encoder reads every word
    assert not torch.allclose(model(batch, key).distortion, plain(batch, key).distortion)
    assert torch.equal(model(batch, key).distortion, model(batch, key).distortion)
    assert torch.equal(
        model(batch, key, Draw(evaluation=True)).distortion, plain(batch, key, Draw(evaluation=True)).distortion
    )


def test_decode_requires_a_batch_of_tokens(data: Data) -> None:
    with pytest.raises(ValueError, match="batch is required"):
        build(data).decode(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="must be token IDs"):
        build_model(ModelConfig(family="text", network="gru", likelihood="tokens", hidden_dim=(8,)), (1, 8, 8))
    with pytest.raises(ValueError, match="one width"):
        build_model(
            ModelConfig(family="text", network="gru", likelihood="tokens", hidden_dim=(8, 8)),
            ModelInputs(event_shape=(9,), num_tokens=20),
        )
