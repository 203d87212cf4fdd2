from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastvae import ops
from fastvae.data.loading.staging import csr
from fastvae.nn import BagEncoder, BagLinear
from fastvae.nn.bag import all_places, compressed_rows, drop_entries, rows_of, unit_rows


def counts_of(rows: int = 5, items: int = 11, seed: int = 0) -> Tensor:
    """Random counts from 0 to 2, with one empty row."""
    counts = torch.randint(0, 3, (rows, items), generator=torch.Generator().manual_seed(seed)).float()
    counts[2] = 0
    return counts


def compressed(dense: Tensor) -> Tensor:
    crow = torch.cat([torch.zeros(1, dtype=torch.int64), (dense != 0).sum(1).cumsum(0)])
    rows, columns = dense.nonzero(as_tuple=True)
    return csr(crow, columns, dense[rows, columns], dense.shape[1])


def test_bag_linear_equals_a_dense_linear_layer() -> None:
    counts, layer = counts_of(), BagLinear(11, 4)
    sparse = compressed(counts)
    output = layer(sparse.crow_indices(), sparse.col_indices(), sparse.values())
    torch.testing.assert_close(output, counts @ layer.weight + layer.bias)
    output.square().sum().backward()
    expected = counts.T @ (2 * (counts @ layer.weight + layer.bias))
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, expected.detach())


def test_unit_rows_normalises_rows_and_keeps_empty_ones() -> None:
    sparse = compressed(counts_of())
    values = unit_rows(sparse.crow_indices(), sparse.values())
    lengths = csr(sparse.crow_indices(), sparse.col_indices(), values, 11).to_dense().norm(dim=1)
    torch.testing.assert_close(lengths, torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0]))


@pytest.mark.parametrize("hidden_dim", [(), (7,), (7, 5)])
def test_sparse_and_dense_counts_give_the_same_posterior(hidden_dim: tuple[int, ...]) -> None:
    encoder = BagEncoder(11, hidden_dim, 3, dropout=0.0)
    for sparse, dense in zip(encoder(compressed(counts_of())), encoder(counts_of()), strict=True):
        assert sparse.shape == (5, 3)
        torch.testing.assert_close(sparse, dense)


def test_sparse_dropout_equals_dense_keyed_dropout() -> None:
    sparse, key = compressed(counts_of()), ops.noise_key(3, 5, 70)
    dropped = drop_entries(sparse.crow_indices(), sparse.col_indices(), sparse.values(), 0.4, key)
    noise = ops.philox_uniform(key, 5, 11, stream=ops.stream(ops.Use.DROPOUT))
    expected = torch.where(noise < 0.4, 0.0, counts_of() / 0.6)
    torch.testing.assert_close(csr(sparse.crow_indices(), sparse.col_indices(), dropped, 11).to_dense(), expected)


def test_dropout_does_not_depend_on_how_the_batch_is_split() -> None:
    encoder, counts = BagEncoder(11, (7,), 3), counts_of()
    whole, _ = encoder(compressed(counts), None, ops.noise_key(0, 1, 0))
    first, _ = encoder(compressed(counts[:2]), None, ops.noise_key(0, 1, 0))
    second, _ = encoder(compressed(counts[2:]), None, ops.noise_key(0, 1, 2))
    torch.testing.assert_close(torch.cat([first, second]), whole)


def test_dropout_requires_training_mode_and_a_key() -> None:
    encoder, x = BagEncoder(11, (7,), 3), compressed(counts_of())
    key = ops.noise_key(0, 1, 0)
    plain, _ = encoder(x)
    assert not torch.equal(encoder(x, None, key)[0], plain)
    assert torch.equal(encoder.eval()(x, None, key)[0], plain)


@pytest.mark.parametrize("wrong", [{"num_items": 0}, {"hidden_dim": (3, 0)}, {"latent_dim": 0}, {"dropout": 1.0}])
def test_invalid_sizes_are_refused(wrong: dict[str, object]) -> None:
    arguments = {"num_items": 11, "hidden_dim": (7,), "latent_dim": 3, **wrong}
    with pytest.raises(ValueError, match="BagEncoder: num_items"):
        BagEncoder(**arguments)  # type: ignore[arg-type]


def test_dense_rows_with_zeros_give_the_same_result_as_nonzero_entries() -> None:
    """On a GPU all entries of a dense row are used, on a CPU only those that ``nonzero`` finds."""
    counts, layer, key = counts_of(rows=6, items=50), BagLinear(50, 8), ops.noise_key(3, 5, 70)
    outputs = []
    for crow, columns, values in (compressed_rows(counts), all_places(counts)):
        dropped = drop_entries(crow, columns, unit_rows(crow, values), 0.4, key)
        outputs.append(layer(crow, columns, dropped))
    assert torch.equal(*outputs)


def test_rows_of_returns_the_row_of_each_entry() -> None:
    crow = torch.tensor([0, 2, 2, 5])
    assert rows_of(crow, 5).tolist() == [0, 0, 2, 2, 2]
