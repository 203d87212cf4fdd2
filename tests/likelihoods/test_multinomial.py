from __future__ import annotations

import pytest
import torch

from fastvae import noise_key
from fastvae.data.loading.staging import csr
from fastvae.likelihoods import Multinomial


def test_log_prob_agrees_with_torch_without_the_multinomial_coefficient() -> None:
    logits, counts = torch.randn(4, 6), torch.randint(0, 4, (4, 6)).float()
    torch_log_prob = torch.stack(
        [
            torch.distributions.Multinomial(int(row.sum()), logits=logit).log_prob(row)
            for logit, row in zip(logits, counts, strict=True)
        ]
    )
    coefficient = torch.lgamma(counts.sum(1) + 1) - torch.lgamma(counts + 1).sum(1)
    torch.testing.assert_close(Multinomial()(logits).log_prob(counts), torch_log_prob - coefficient)


def test_samples_and_sparse_counts() -> None:
    logits, counts = torch.randn(3, 4, 6), torch.tensor([[0.0, 2, 0, 1, 0, 0]]).expand(4, 6)
    sparse = csr(torch.arange(0, 9, 2), torch.tensor([1, 3] * 4), torch.tensor([2.0, 1.0] * 4), 6)
    bound = Multinomial()(logits)
    assert bound.log_prob(sparse).shape == (3, 4)
    torch.testing.assert_close(bound.log_prob(sparse), bound.log_prob(counts))
    torch.testing.assert_close(bound.mean.sum(-1), torch.ones(3, 4))


def test_a_mask_excludes_items_of_dense_counts_and_is_refused_for_sparse_ones() -> None:
    logits, counts, mask = torch.randn(2, 5), torch.ones(2, 5), torch.ones(2, 5)
    mask[:, 3] = 0
    bound = Multinomial()(logits)
    torch.testing.assert_close(bound.log_prob(counts, mask), bound.log_prob(counts * mask))
    with pytest.raises(ValueError, match="mask"):
        bound.log_prob(csr(torch.tensor([0, 0, 1]), torch.tensor([1]), torch.ones(1), 5), mask)


def test_samples_follow_the_probabilities_and_depend_on_the_key() -> None:
    bound = Multinomial()(torch.tensor([0.0, 1.0, -1.0, -20.0]).expand(20_000, 4))
    drawn = bound.sample(noise_key(0))
    assert torch.equal(drawn.sum(1), torch.ones(20_000))
    torch.testing.assert_close(drawn.mean(0), bound.mean[0], atol=0.015, rtol=0)
    assert torch.equal(drawn, bound.sample(noise_key(0)))
    assert not torch.equal(drawn, bound.sample(noise_key(1)))
