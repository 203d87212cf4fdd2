"""A named column of times decides which items of a test user are held out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fastvae.applications.recommendation import held_out_line
from fastvae.data import Data, DataConfig, build_data
from fastvae.data.interactions.config import InteractionsConfig, RatingColumns
from fastvae.data.interactions.files import read_interactions
from fastvae.data.interactions.source import InteractionSource, hold_out
from fastvae.evaluate.ranking import evaluate_ranking

USERS, ITEMS = 20, 10


def write(path: Path, times: list[str], column: str = "when") -> Path:
    """Each of 20 users has the same 10 items, item i at ``times[i]``."""
    lines = [f"u{user},i{item},{times[item]}" for user in range(USERS) for item in range(ITEMS)]
    path.write_text(f"user,item,{column}\n" + "\n".join(lines) + "\n")
    return path


def config_of(path: Path, time: str | None = "when") -> DataConfig:
    return DataConfig(name="interactions", path=path, interactions=InteractionsConfig(time=time))


def held_out(data: Data) -> set[tuple[str, ...]]:
    """The sets of items that are held out of the test users."""
    assert isinstance(data.test, InteractionSource)
    users = torch.arange(len(data.test))
    split = hold_out(data.test[users], 0, recency=data.test.recency_of(users))
    assert torch.equal((split.fold_in.to_dense() + split.held_out.to_dense()), data.test[users].to_dense())
    return {tuple(f"i{item}" for item in row.nonzero().flatten().tolist()) for row in split.held_out.to_dense()}


@pytest.mark.parametrize(
    ("times", "newest"),
    [
        ([str(1000 + 7 * item % 10) for item in range(ITEMS)], ("i4", "i7")),  # 7 i mod 10 is largest at 7 and 4
        ([f"2026-01-{31 - item} 12:00" for item in range(ITEMS)], ("i0", "i1")),
        ([f"{item + 13}.02.2026" for item in range(ITEMS)], ("i8", "i9")),
        (["5"] * ITEMS, ("i8", "i9")),  # ties: the later in the file is newer
        (["9e9", *["5"] * 8, "4.5"], ("i0", "i8")),
    ],
)
def test_the_newest_items_are_held_out(tmp_path: Path, times: list[str], newest: tuple[str, str]) -> None:
    data = build_data(config_of(write(tmp_path / "x.csv", times)))
    assert held_out(data) == {newest}
    assert "times from when (each test user's newest items are held out)" in "\n".join(data.notes)
    assert held_out_line(data, config_of(tmp_path / "x.csv")).endswith(
        "newest fifth of each test user's items, by when"
    )


def test_items_are_held_out_at_random_if_no_column_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", [str(item) for item in range(ITEMS)], column="timestamp")
    data = build_data(config_of(path, time=None))
    assert len(held_out(data)) > 1
    assert "times in timestamp are used only if --data.interactions.time names them" in "\n".join(data.notes)


def test_the_fourth_column_of_a_file_without_a_header_may_be_the_time(tmp_path: Path) -> None:
    path = tmp_path / "ratings.dat"
    lines = [f"u{user}::i{item}::4::{item * 7 % 10}" for user in range(USERS) for item in range(ITEMS)]
    path.write_text("\n".join(lines) + "\n")
    assert held_out(build_data(config_of(path, time="4"))) == {("i4", "i7")}
    data = build_data(config_of(path, time=None))
    assert "times in column 4 are used only if --data.interactions.time names them" in "\n".join(data.notes)


def test_the_report_ranks_the_newest_items(tmp_path: Path) -> None:
    data = build_data(config_of(write(tmp_path / "x.csv", [str(item) for item in range(ITEMS)])))

    def score(counts: torch.Tensor) -> torch.Tensor:
        folded_in = counts.to_dense()
        assert not folded_in[:, 8:].any()
        assert folded_in[:, :8].all()
        return folded_in

    assert evaluate_ranking(score, data.test).num_users == len(data.test)


def test_a_repeated_interaction_has_its_newest_time(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("user,item,when\nu,a,3\nu,b,1\nu,c,2\nu,b,9\n")
    rows = read_interactions(path, columns=RatingColumns(time="when")).rows
    split = hold_out(rows[torch.tensor([0])], 0, share=0.5, recency=rows.recency_of(torch.tensor([0])))
    assert split.held_out.to_dense().tolist() == [[0.0, 1.0, 0.0]]


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["1", "2", "soon"], "line 4 .*when must be a number or a date .*got 'soon'"),
        (["1", "2", ""], "line 4 .*got ''"),
        (["1", "2", "nan"], "line 4 .*got 'nan'"),
        (["2026-01-01", "2", "3"], "line 3 .*got '2'"),
        (["01/02/2026", "03/04/2026", "05/06/2026"], "dmy or mdy .*write them as YYYY-MM-DD"),
    ],
)
def test_a_time_that_cannot_be_read_is_an_error(tmp_path: Path, cells: list[str], words: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text("user,item,when\n" + "".join(f"u,i{place},{cell}\n" for place, cell in enumerate(cells)))
    with pytest.raises(ValueError, match=words):
        read_interactions(path, columns=RatingColumns(time="when"))


def test_a_matrix_has_no_times(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no column of times, got --data.interactions.time when; leave it out"):
        read_interactions(tmp_path / "x.npz", columns=RatingColumns(time="when"))
