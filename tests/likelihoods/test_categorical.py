"""The adaptive softmax over tokens: exact probabilities, masks and samples."""

from __future__ import annotations

import pytest
import torch

from fastvae import noise_key
from fastvae.likelihoods import Categorical, draw_tokens

CUTOFFS = [(), (5,), (4, 9), (4, 9, 500)]


def build(cutoffs: tuple[int, ...], num_tokens: int = 20) -> Categorical:
    torch.manual_seed(0)
    return Categorical(16, num_tokens, cutoffs=cutoffs, narrowing=2.0)


@pytest.mark.parametrize("cutoffs", CUTOFFS)
def test_probabilities_sum_to_1_and_agree_with_token_log_prob(cutoffs: tuple[int, ...]) -> None:
    likelihood, features = build(cutoffs), torch.randn(7, 16)
    log_probs = likelihood.log_probs(features)
    assert log_probs.shape == (7, 20)
    torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(7))
    tokens = torch.tensor([0, 3, 4, 8, 9, 19, 5])
    torch.testing.assert_close(
        likelihood.token_log_prob(features, tokens), log_probs.gather(1, tokens.unsqueeze(1)).squeeze(1)
    )


def test_without_cutoffs_it_is_a_softmax() -> None:
    likelihood, features, tokens = build(()), torch.randn(6, 16), torch.randint(0, 20, (6,))
    expected = -torch.nn.functional.cross_entropy(likelihood.head(features), tokens, reduction="none")
    torch.testing.assert_close(likelihood.token_log_prob(features, tokens), expected)


@pytest.mark.parametrize("cutoffs", CUTOFFS)
def test_log_prob_sums_over_unmasked_tokens(cutoffs: tuple[int, ...]) -> None:
    likelihood, features = build(cutoffs), torch.randn(2, 3, 5, 16, requires_grad=True)
    target = torch.randint(0, 20, (3, 5))
    mask = torch.arange(5) < torch.tensor([5, 2, 1]).unsqueeze(1)
    nats = likelihood(features).log_prob(target, mask)
    per_token = likelihood.log_probs(features).gather(-1, target.expand(2, 3, 5).unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(nats, (per_token * mask).sum(-1))
    nats.sum().backward()
    assert features.grad is not None
    assert not features.grad[:, 1, 2:].any()
    torch.testing.assert_close(likelihood(features[0]).log_prob(target), per_token[0].sum(-1))


def test_every_parameter_gets_a_gradient_even_if_its_cluster_has_no_tokens() -> None:
    for rows in (4, 0):
        likelihood = build((4, 9))
        likelihood(torch.randn(rows, 2, 16)).log_prob(torch.zeros(rows, 2, dtype=torch.int64)).sum().backward()
        assert all(parameter.grad is not None for parameter in likelihood.parameters())


def test_samples_follow_the_probabilities_and_depend_on_the_key() -> None:
    likelihood, features = build((4, 9)), torch.randn(1, 16)
    many = likelihood(features.expand(20000, 1, 16))
    drawn = many.sample(noise_key(3))
    assert torch.equal(drawn, many.sample(noise_key(3)))
    assert not torch.equal(drawn, many.sample(noise_key(4)))
    share = drawn.flatten().bincount(minlength=20) / 20000
    torch.testing.assert_close(share, likelihood.log_probs(features)[0].exp(), atol=0.012, rtol=0)


def test_tokens_with_probability_0_are_never_sampled() -> None:
    forbidden = torch.tensor([[-torch.inf, 0.0, -torch.inf, 1.0, -torch.inf]]).expand(3, 5)
    assert draw_tokens(forbidden, torch.tensor([2**-33, 0.5, 1 - 2**-24])).tolist() == [1, 3, 3]


def test_cutoffs_must_be_increasing() -> None:
    with pytest.raises(ValueError, match=r"cutoffs .*9, 4"):
        Categorical(8, 20, cutoffs=(9, 4))


def picked(likelihood: Categorical, features: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Log probabilities of tokens, computed with ``nonzero``: a cluster's layers are applied to its own tokens only."""
    head = likelihood.head(features).log_softmax(1)
    first = likelihood.edges[0]
    result = torch.zeros(len(tokens))
    common = (tokens < first).nonzero().squeeze(1)
    result[common] = head[common, tokens[common]]
    for number, (low, high) in enumerate(zip(likelihood.edges, likelihood.edges[1:], strict=False)):
        rows = ((tokens >= low) & (tokens < high)).nonzero().squeeze(1)
        inside = likelihood.clusters[number](features[rows]).log_softmax(1)
        result[rows] = head[rows, first + number] + inside.gather(1, (tokens[rows] - low).unsqueeze(1)).squeeze(1)
    return result


@pytest.mark.parametrize("cutoffs", CUTOFFS)
def test_on_the_cpu_a_clusters_layers_are_applied_to_its_tokens_only(cutoffs: tuple[int, ...]) -> None:
    likelihood, features, tokens = build(cutoffs), torch.randn(40, 16), torch.randint(0, 20, (40,))
    assert torch.equal(likelihood.token_log_prob(features, tokens), picked(likelihood, features, tokens))


@pytest.mark.parametrize("cutoffs", CUTOFFS)
def test_the_gpu_formula_gives_the_same_scores_and_gradients(
    cutoffs: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The formula that is used on GPUs does not use ``nonzero``, so that shapes do not depend on values."""
    likelihood, target = build(cutoffs).double(), torch.randint(0, 20, (3, 5))
    mask = torch.arange(5) < torch.tensor([[5], [2], [0]])
    results = []
    for may_wait in (True, False):
        monkeypatch.setattr("fastvae.likelihoods.categorical.may_wait", lambda tokens, answer=may_wait: answer)
        torch.manual_seed(1)
        features = torch.randn(2, 3, 5, 16, dtype=torch.float64, requires_grad=True)
        log_prob = likelihood(features).log_prob(target, mask)
        gradients = torch.autograd.grad(log_prob.square().sum(), [features, *likelihood.parameters()])
        results.append((log_prob, *gradients))
    for waited, fixed in zip(*results, strict=True):
        torch.testing.assert_close(fixed, waited, rtol=1e-12, atol=1e-12)
