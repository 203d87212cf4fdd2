from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fastvae import DataConfig, build_data
from fastvae.data import DESCRIPTION, Loader, describe
from fastvae.data.interactions.catalogue import CATALOGUE_FILE, Catalogue
from fastvae.data.interactions.movielens import FILES, locate_movielens
from fastvae.data.interactions.ratings import is_ratings_file, read_ratings, read_titles
from fastvae.data.interactions.recommendation import InteractionsConfig, load_interactions
from fastvae.data.interactions.source import Counts, InteractionSource, hold_out

PAIRS = (torch.tensor([0, 0, 2, 2, 2, 0]), torch.tensor([3, 1, 0, 4, 2, 3]))


def source() -> InteractionSource:
    return InteractionSource.from_pairs(*PAIRS, 3, 5)


def test_rows_are_read_by_index() -> None:
    expected = torch.tensor([[0.0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 0, 1, 0, 1]])
    assert len(source()) == 3
    assert torch.equal(source()[torch.tensor([2, 0, 1, 2])].to_dense(), expected[[2, 0, 1, 2]])
    assert source()[torch.tensor([], dtype=torch.int64)].shape == (0, 5)
    assert torch.equal(source().popularity(), expected.sum(0))


def test_columns_may_be_memory_mapped(tmp_path: Path) -> None:
    np.save(tmp_path / "columns.npy", np.array([1, 3, 0, 2, 4], dtype=np.int32))
    mapped = torch.from_numpy(np.load(tmp_path / "columns.npy", mmap_mode="c"))
    on_disk = InteractionSource(torch.tensor([0, 2, 2, 5]), mapped, 5)
    assert torch.equal(on_disk[torch.arange(3)].to_dense(), source()[torch.arange(3)].to_dense())


@pytest.mark.parametrize(
    ("crow", "items", "message"),
    [
        ([0, 2], [1, 2, 3], "offsets must go from 0"),
        ([1, 3], [1, 2, 3], "offsets must go from 0"),
        ([0, 2, 1, 3], [1, 2, 3], "offsets must not fall"),
        ([0, 3], [1, 2, 9], r"items must be in 0 \.\. 4"),
        ([0, 1, 1, 4], [3, 0, 2, 1], "ascending and unique, those of user 2 are not"),
        ([0, 1, 3, 4], [3, 2, 2, 1], "ascending and unique, those of user 1 are not"),
    ],
)
def test_offsets_and_items_are_checked(crow: list[int], items: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InteractionSource(torch.tensor(crow), torch.tensor(items), 5)


def test_items_may_decrease_from_one_user_to_the_next() -> None:
    assert len(InteractionSource(torch.tensor([0, 0, 2, 2, 3, 4]), torch.tensor([3, 4, 4, 0]), 5)) == 5


def test_users_and_items_are_chosen_in_any_order() -> None:
    chosen = source().select(torch.tensor([2, 1, 0]), torch.tensor([2, -1, 0, 1, -1]), 3)
    assert chosen[torch.arange(3)].to_dense().tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_the_loader_gives_the_same_users_on_one_and_two_ranks() -> None:
    users = InteractionSource.from_pairs(torch.arange(20).repeat(2), torch.arange(40) % 9, 20, 9)
    whole = Loader(users, Counts(), global_batch_size=8, seed=1).load(3)[0].batch
    shares = [
        Loader(users, Counts(), global_batch_size=8, seed=1, rank=rank, world_size=2).load(3)[0].batch
        for rank in (0, 1)
    ]
    assert torch.equal(torch.cat([share.x.to_dense() for share in shares]), whole.x.to_dense())


def test_the_held_out_fifth_depends_on_user_and_item_only() -> None:
    users = InteractionSource.from_pairs(torch.arange(60).repeat_interleave(10), torch.arange(600) % 37, 60, 37)
    counts = users[torch.arange(60)]
    split = hold_out(counts, 0, seed=4)
    fold_in, held_out = split.fold_in.to_dense(), split.held_out.to_dense()
    assert torch.equal(fold_in + held_out, counts.to_dense())
    assert torch.equal(held_out.sum(1), torch.full((60,), 2.0))
    later = hold_out(users[torch.arange(25, 60)], 25, seed=4)
    assert torch.equal(later.held_out.to_dense(), held_out[25:])
    assert not torch.equal(hold_out(counts, 0, seed=5).held_out.to_dense(), held_out)
    with pytest.raises(ValueError, match="share must be in"):
        hold_out(counts, 0, share=1.0)


def test_no_items_of_users_with_few_items_are_held_out() -> None:
    split = hold_out(source()[torch.arange(3)], 0)
    assert split.held_out.values().numel() == 0


def write_ratings(path: Path, users: int = 30) -> Path:
    lines = ["userId,movieId,rating,timestamp"]
    lines += [f"u{i // 8},m{(i // 8 * 5 + i % 8 * 3) % 20},{1 + i % 8 % 5},0" for i in range(8 * users)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_files_with_users_and_items_are_recognised(tmp_path: Path) -> None:
    path = write_ratings(tmp_path / "ratings.csv")
    (tmp_path / "numbers.csv").write_text("height,weight\n1,2\n")
    assert is_ratings_file(path)
    assert not is_ratings_file(tmp_path / "numbers.csv")
    assert not is_ratings_file(tmp_path)
    ratings = read_ratings(path)
    assert ratings.item_ids[:3] == ("m0", "m3", "m6")
    assert ratings.users[8] == 1
    assert ratings.has_ratings
    liked = read_ratings(path, 4.0)
    assert liked.items[:2].tolist() == [3, 4]  # numbered by all items of the file
    assert (liked.user_ids, liked.item_ids) == (ratings.user_ids, ratings.item_ids)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"user_id,item_id,rating\na,b,good\n", "line 2 does not fit the header: rating must be a number, got 'good'"),
        (b"user_id,item_id\na,b\n\na\n", "line 4 does not fit the header: item_id should be its value 2, it has 1"),
        (b"user_id,item_id\na,caf\xe9\n", "must be UTF-8 text"),
        (b"\xff,item_id\na,b\n", "must be UTF-8 text"),
        (b'user_id,item_id\na,"' + b"b" * 200_000 + b'"\n', "line 2 cannot be read: field larger than"),
        (b"user_id,item_id\n", "no interactions"),
        (b"name,thing\na,b\n", "must name a column of users"),
        (b"", "must name a column of users"),
    ],
)
def test_an_invalid_file_is_a_one_line_error(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "x.inter"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_ratings(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folds_are_disjoint_and_the_catalogue_is_of_training_users(tmp_path: Path) -> None:
    path = write_ratings(tmp_path / "ratings.csv")
    (tmp_path / "movies.csv").write_text('movieId,title\nm6,"Heat, The (1995)"\nm3,Fargo (1996)\n')
    seen = []
    for fold in range(5):
        config = InteractionsConfig(fold=fold, min_rating=2.0)
        data = load_interactions(path, config, seed=0, state={}, name="mine")
        assert (len(data.train), len(data.test)) == (24, 6)
        catalogue = Catalogue.from_bytes(data.state[CATALOGUE_FILE])
        assert data.event_shape == (len(catalogue),)
        assert bool((data.train[torch.arange(24)].to_dense().sum(0) > 0).all())
        seen.append(data.test[torch.arange(6)].to_dense().sum(1))
    assert catalogue.titles[catalogue.find("heat, the")] == "Heat, The (1995)"
    assert catalogue.ids[catalogue.find("FARGO")] == "m3"
    assert catalogue.find("m1") == catalogue.ids.index("m1")
    assert torch.cat(seen).sum() == sum(min(1, place % 5) for place in range(8)) * 30


def test_a_run_without_its_ratings_file_has_a_catalogue_and_no_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FASTVAE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = build_data(DataConfig(path=write_ratings(tmp_path / "ratings.csv")))
    state = {**data.state, DESCRIPTION: describe(data)}  # as saved by a run
    gone = build_data(DataConfig(name="movielens-100k"), 0, state)
    assert gone.event_shape == (20,)
    assert gone.state == state
    for use in (len, lambda users: users[torch.arange(1)]):
        with pytest.raises(ValueError, match=r"the run's examples cannot be read: .* recommend with --items") as caught:
            use(gone.test)
        assert "\n" not in str(caught.value)


def test_interactions_are_read_from_a_path(tmp_path: Path) -> None:
    path = write_ratings(tmp_path / "ratings.csv")
    assert build_data(DataConfig(name="file", path=path)).kind == "interactions"
    path.write_text("user,item\n" + "".join(f"{user},{item}\n" for user in range(20) for item in range(6)))
    with pytest.raises(ValueError, match="requires a column of ratings"):
        build_data(DataConfig(name="file", path=path, interactions=InteractionsConfig(min_rating=4)))
    with pytest.raises(ValueError, match="lower min_items or min_rating"):
        build_data(DataConfig(name="file", path=path, interactions=InteractionsConfig(min_items=7)))


def test_titles_contain_the_year(tmp_path: Path) -> None:
    path = tmp_path / "x.item"
    path.write_text("item_id:token\tmovie_title:token_seq\trelease_year:token\n1\tToy Story\t1995\n2\tHeat\t\n")
    assert read_titles(path) == {"1": "Toy Story (1995)", "2": "Heat"}


def test_movielens_that_is_not_as_published_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTVAE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match="are in none of"):
        locate_movielens(tmp_path / "empty", download=False)
    (tmp_path / "ml-100k").mkdir()
    for name in FILES:
        (tmp_path / "ml-100k" / name).write_text("something else")
    with pytest.raises(ValueError, match="is not MovieLens-100K as published"):
        locate_movielens(tmp_path, download=False)
