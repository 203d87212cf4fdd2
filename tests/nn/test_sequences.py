"""Recurrent networks and Transformers over tokens: dependencies, and agreement of batched and stepwise decoding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fastvae import noise_key
from fastvae.nn import RecurrentDecoder, RecurrentEncoder, TransformerDecoder, TransformerEncoder
from fastvae.records import PAD

V, D, C = 30, 4, 3
NETWORKS = ["gru", "lstm", "transformer"]


def build(network: str, *, condition_dim: int = C, dropout: float = 0.0) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    if network == "transformer":
        options = {"max_length": 12, "condition_dim": condition_dim}
        return TransformerEncoder(V, 16, D, **options), TransformerDecoder(V, 16, D, dropout=dropout, **options)
    sizes = (V, 8, 16, D)
    options = {"cell": network, "num_layers": 2, "condition_dim": condition_dim}
    return RecurrentEncoder(*sizes, **options), RecurrentDecoder(*sizes, dropout=dropout, **options)


def inputs_of(rows: int, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(4, V, (rows, steps), generator=generator)
    return tokens, torch.randn(rows, D, generator=generator), torch.randn(rows, C, generator=generator)


@pytest.mark.parametrize("network", NETWORKS)
def test_padding_does_not_change_the_posterior(network: str) -> None:
    encoder, _ = build(network)
    tokens, _, condition = inputs_of(3, 6)
    padded = torch.cat((tokens, torch.full((3, 4), PAD)), 1)
    for plain, other in zip(encoder(tokens, condition), encoder(padded, condition), strict=True):
        torch.testing.assert_close(plain, other)
    longer, _ = encoder(torch.cat((tokens, tokens[:, :1]), 1), condition)
    assert not torch.allclose(longer, encoder(tokens, condition)[0])


@pytest.mark.parametrize("network", NETWORKS)
def test_features_depend_on_previous_tokens_only(network: str) -> None:
    _, decoder = build(network)
    tokens, z, condition = inputs_of(2, 7)
    features = decoder(z, tokens, condition)
    changed = tokens.clone()
    changed[:, 4] = tokens[:, 4] % (V - 4) + 5
    other = decoder(z, changed, condition)
    torch.testing.assert_close(features[:, :4], other[:, :4])
    assert not torch.allclose(features[:, 4:], other[:, 4:])


@pytest.mark.parametrize("network", NETWORKS)
def test_stepwise_decoding_agrees_with_whole_sentences(network: str) -> None:
    _, decoder = build(network)
    tokens, z, condition = inputs_of(3, 6)
    state, steps = decoder.start(z, condition), []
    for token in tokens.unbind(1):
        features, state = decoder.step(state, token)
        steps.append(features)
    torch.testing.assert_close(torch.stack(steps, 1), decoder(z, tokens, condition))


@pytest.mark.parametrize("network", NETWORKS)
def test_multiple_samples_of_z_use_the_same_sentences(network: str) -> None:
    _, decoder = build(network)
    tokens, z, condition = inputs_of(3, 6)
    both = decoder(torch.cat((z, -z)), tokens, condition.repeat(2, 1))
    torch.testing.assert_close(both[:3], decoder(z, tokens, condition))
    torch.testing.assert_close(both[3:], decoder(-z, tokens, condition))


@pytest.mark.parametrize("network", NETWORKS)
def test_outputs_depend_on_z_and_condition_and_a_missing_condition_is_an_error(network: str) -> None:
    encoder, decoder = build(network)
    tokens, z, condition = inputs_of(2, 5)
    features = decoder(z, tokens, condition)
    assert not torch.allclose(features, decoder(z + 1, tokens, condition))
    assert not torch.allclose(features, decoder(z, tokens, condition + 1))
    assert not torch.allclose(encoder(tokens, condition)[0], encoder(tokens, condition + 1)[0])
    with pytest.raises(ValueError, match=r"condition .*got None"):
        decoder(z, tokens)


@pytest.mark.parametrize("network", NETWORKS)
def test_an_empty_batch_gives_zero_gradients(network: str) -> None:
    encoder, decoder = build(network, condition_dim=0)
    tokens = torch.empty((0, 1), dtype=torch.int64)
    mu, logvar = encoder(tokens)
    (decoder(mu, tokens).sum() + logvar.sum()).backward()
    for name, parameter in [*encoder.named_parameters(), *decoder.named_parameters()]:
        if parameter.grad is not None:
            assert not parameter.grad.any(), name


@pytest.mark.parametrize("network", NETWORKS)
def test_dropout_is_keyed(network: str) -> None:
    _, decoder = build(network, dropout=0.4)
    tokens, z, condition = inputs_of(4, 6)
    first = decoder(z, tokens, condition, noise_key(0, 1))
    assert torch.equal(first, decoder(z, tokens, condition, noise_key(0, 1)))
    assert not torch.allclose(first, decoder(z, tokens, condition, noise_key(0, 2)))
    later = decoder(z[2:], tokens[2:], condition[2:], noise_key(0, 1, 2))
    torch.testing.assert_close(first[2:], later)
