from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Normal

from fastvae import noise_key
from fastvae.likelihoods import Table

WIDTHS = (1, 3, 1, 2)  # number, category of three, number, category of two


def rows_of(num: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(num, 2, generator=generator)
    three, two = (torch.eye(n)[torch.randint(0, n, (num,), generator=generator)] for n in (3, 2))
    return torch.cat([numbers[:, :1], three, numbers[:, 1:], two], dim=1)


def expected(table: Table, output: Tensor, target: Tensor) -> Tensor:
    """Log probabilities [..., C] according to torch.distributions."""
    scale = torch.exp(0.5 * table.numbers.logvar.detach())
    return torch.stack(
        [
            Normal(output[..., 0], scale[0]).log_prob(target[:, 0]),
            Categorical(logits=output[..., 1:4]).log_prob(target[:, 1:4].argmax(1)),
            Normal(output[..., 4], scale[4]).log_prob(target[:, 4]),
            Categorical(logits=output[..., 5:]).log_prob(target[:, 5:].argmax(1)),
        ],
        dim=-1,
    )


@pytest.mark.parametrize("shape", [(6, 7), (3, 6, 7)])
def test_columns_agree_with_torch_distributions(shape: tuple[int, ...]) -> None:
    table, output, target = Table(WIDTHS, logvar=0.5), torch.randn(shape), rows_of(6)
    bound = table(output)
    torch.testing.assert_close(bound.log_prob_per_column(target), expected(table, output, target))
    torch.testing.assert_close(bound.log_prob(target), expected(table, output, target).sum(-1))


@pytest.mark.parametrize("widths", [WIDTHS, (1,) * 7])
def test_missing_values_are_ignored_and_columns_add_up(widths: tuple[int, ...]) -> None:
    table, output, target = Table(widths), torch.randn(2, 6, 7), rows_of(6)
    mask = torch.ones(6, 7, dtype=torch.bool)
    mask[0, 0], mask[1, 1:4] = False, False
    bound = table(output)
    columns = bound.log_prob_per_column(target, mask)
    torch.testing.assert_close(bound.log_prob(target, mask), columns.sum(-1))
    assert columns[0, 0, 0] == 0
    assert columns[0, 1, 1] == 0
    changed = target.clone()
    changed[~mask] = 50.0
    torch.testing.assert_close(bound.log_prob(changed, mask), bound.log_prob(target, mask))


def test_each_numeric_column_learns_its_own_standard_deviation() -> None:
    table = Table((1, 1, 1), logvar=0.0)
    values = torch.randn(4000, 3, generator=torch.Generator().manual_seed(1)) * torch.tensor([0.3, 1.0, 2.0])
    optimizer = torch.optim.Adam(table.parameters(), lr=0.1)
    for _ in range(150):
        loss = -table(torch.zeros(4000, 3)).log_prob(values).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(torch.exp(0.5 * table.numbers.logvar), values.std(0, correction=0), atol=0.02, rtol=0.02)


def test_mean_and_samples() -> None:
    output = torch.tensor([[1.0, 0.0, 2.0, -1.0, -3.0, 0.5, 0.5]]).expand(20_000, 7)
    bound = Table(WIDTHS, logvar=-2.0)(output)
    drawn = bound.sample(noise_key(0))
    torch.testing.assert_close(bound.mean[0, 1:4].sum(), torch.tensor(1.0))
    torch.testing.assert_close(drawn.mean(0), bound.mean[0], atol=0.015, rtol=0)
    assert torch.equal(drawn[:, 1:4].sum(1), torch.ones(20_000))
    assert torch.equal(drawn, bound.sample(noise_key(0)))


def test_at_least_one_column_is_required() -> None:
    with pytest.raises(ValueError, match="at least one column"):
        Table(())
