"""Interactions from files: sparse matrices in an .npz, and the run's record of its test users."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

from fastvae import Data, DataConfig, build_data
from fastvae.data import read_source
from fastvae.data.interactions.files import is_sparse_file, read_interactions
from fastvae.data.interactions.recommendation import InteractionsConfig
from fastvae.data.interactions.users import load_own_interactions

USERS, ITEMS = 40, 30


def ratings() -> sparse.csr_matrix:
    """Return ratings 1 .. 5 of 12 items by each user; item 7 has none."""
    rng = np.random.default_rng(0)
    dense = np.zeros((USERS, ITEMS))
    for user in range(USERS):
        dense[user, rng.choice(np.delete(np.arange(ITEMS), 7), 12, replace=False)] = rng.integers(1, 6, 12)
    return sparse.csr_matrix(dense)


def write_csv(path: Path, matrix: sparse.csr_matrix) -> Path:
    entries = matrix.tocoo()
    # Every user and item occurs in order first, with a rating that is ignored.
    lines = [f"{user},0,0" for user in range(USERS)] + [f"0,{item},0" for item in range(ITEMS)]
    lines += [
        f"{user},{item},{value}" for user, item, value in zip(entries.row, entries.col, entries.data, strict=True)
    ]
    path.write_text("user,item,rating\n" + "\n".join(lines) + "\n")
    return path


def dense(data: Data) -> tuple[torch.Tensor, torch.Tensor]:
    train, test = (part[torch.arange(len(part))].to_dense() for part in (data.train, data.test))
    return train, test


@pytest.mark.parametrize("min_rating", [1.0, 3.0])
def test_a_sparse_matrix_gives_the_same_interactions_as_a_text_file(tmp_path: Path, min_rating: float) -> None:
    (tmp_path / "items.csv").write_text("item,title\n3,Three\n")
    sparse.save_npz(tmp_path / "own.npz", ratings())
    write_csv(tmp_path / "own.csv", ratings())
    interactions = InteractionsConfig(min_rating=min_rating)
    text, matrix = (
        load_own_interactions(DataConfig(path=tmp_path / name, interactions=interactions), 0, {})
        for name in ("own.csv", "own.npz")
    )
    assert build_data(DataConfig(path=tmp_path / "own.npz")).kind == "interactions"
    assert matrix.state == text.state  # IDs, titles and held-out users
    assert b"Three" in matrix.state["items.json"]
    for ours, theirs in zip(dense(matrix), dense(text), strict=True):
        assert torch.equal(ours, theirs)
    users = read_source(tmp_path / "own.npz", matrix, DataConfig(interactions=interactions))
    assert len(users) == USERS
    assert users[torch.arange(USERS)].values().numel() == (ratings().data >= min_rating).sum()


def test_entries_are_sorted_and_counted_once(tmp_path: Path) -> None:
    matrix = sparse.csr_matrix((np.array([1.0, 1, 1, 0, 1]), np.array([4, 1, 1, 0, 2]), np.array([0, 3, 3, 5])), (3, 6))
    sparse.save_npz(tmp_path / "own.npz", matrix, compressed=False)
    read = read_interactions(tmp_path / "own.npz")
    expected = [[0, 1, 0, 0, 1, 0], [0] * 6, [0, 0, 1, 0, 0, 0]]
    assert read.rows[torch.arange(3)].to_dense().tolist() == expected
    assert read.item_ids == tuple("012345")


def test_a_matrix_of_ones_has_no_ratings(tmp_path: Path) -> None:
    matrix = ratings()
    matrix.data[:] = 1
    sparse.save_npz(tmp_path / "ones.npz", matrix.astype(np.int8))
    config = DataConfig(path=tmp_path / "ones.npz", interactions=InteractionsConfig(min_rating=4.0))
    with pytest.raises(ValueError, match=r"min_rating=4.0 requires a column of ratings \(in an .npz, values other"):
        build_data(config)
    data = build_data(DataConfig(path=tmp_path / "ones.npz"))
    users = read_source(tmp_path / "ones.npz", data, config)
    assert users[torch.arange(USERS)].values().numel() == matrix.nnz


def parts(**changed: object) -> dict[str, object]:
    matrix = ratings()
    found = {"indptr": matrix.indptr, "indices": matrix.indices, "data": matrix.data, "shape": np.array(matrix.shape)}
    return {"format": np.array(b"csr"), **found, **changed}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (parts(format=np.array(b"csc")), "must be a csr matrix of users x items; save it by"),
        (parts(shape=np.array([USERS])), "must be a csr matrix"),
        (parts(shape=np.array([40.0, 30.0])), "must be a csr matrix"),
        (parts(shape=np.array([USERS, 0])), "must have a user and 1 .. 10000000 items, got 40 x 0"),
        (parts(shape=np.array([USERS + 1, ITEMS])), "a matrix of 41 x 30 has 42 offsets"),
        (parts(shape=np.array([USERS, 20])), r"items must be in 0 \.\. 19"),
        (parts(data=np.ones(3)), "a matrix of 40 x 30 has 41 offsets"),
        (parts(indices=np.full(12 * USERS, 2**32 + 1)), r"items must be in 0 \.\. 29"),
        (parts(indices=np.zeros(12 * USERS)), "a whole number"),
        (parts(indptr=np.arange(USERS + 1)[::-1]), "offsets must go from 0"),
        (parts(data=np.array([None] * 12 * USERS)), "pickled"),
        (
            {"format": np.array(b"csr"), "shape": np.array([1, 1])},
            "a sparse matrix in an .npz has indptr, indices, data",
        ),
    ],
)
def test_an_invalid_matrix_is_a_one_line_error(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, **arrays)
    assert is_sparse_file(path)
    with pytest.raises(ValueError, match=message) as caught:
        build_data(DataConfig(path=path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_archives_are_not_read_as_sparse_matrices(tmp_path: Path) -> None:
    np.savez(tmp_path / "pixels.npz", x=np.zeros((2, 3)))
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04")
    assert not any(is_sparse_file(tmp_path / name) for name in ("pixels.npz", "broken.npz", "none.npz", "."))


def test_a_file_that_changes_the_held_out_users_is_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "own.csv", ratings())
    config = DataConfig(path=path, interactions=InteractionsConfig(min_rating=1.0))
    data = load_own_interactions(config, 0, {})
    again = load_own_interactions(config, 0, data.state)
    assert len(again.test) == len(data.test)
    with path.open("a") as file:
        file.writelines(f"new{place // 6},{place % 6},5\n" for place in range(6 * USERS))
    with pytest.raises(ValueError, match="has changed since the run began: other users would be held out"):
        load_own_interactions(config, 0, data.state)
    old = {name: content for name, content in data.state.items() if name != "test_users.json"}
    assert len(load_own_interactions(config, 0, old).test) == 16  # nothing to compare with


def test_new_items_do_not_change_the_held_out_users(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "own.csv", ratings())
    config = DataConfig(path=path, interactions=InteractionsConfig(min_rating=1.0))
    data = load_own_interactions(config, 0, {})
    with path.open("a") as file:
        file.write("3,unheard,5\n")
    assert torch.equal(dense(load_own_interactions(config, 0, data.state))[1], dense(data)[1])
