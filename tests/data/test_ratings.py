"""Interaction files in the formats of shops, Kaggle and recommender libraries."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from fastvae.data import DataConfig, build_data
from fastvae.data.interactions.config import RatingColumns
from fastvae.data.interactions.files import is_interactions_file, read_interactions
from fastvae.data.interactions.ratings import read_ratings, read_titles
from fastvae.data.interactions.recommendation import InteractionsConfig

PAIRS = {("u1", "B1"), ("u1", "B2"), ("u2", "B1")}


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def pairs(path: Path, min_rating: float | None = None, **names: Any) -> set[tuple[str, str]]:
    read = read_ratings(path, min_rating, RatingColumns(**names))
    return {
        (read.user_ids[user], read.item_ids[item])
        for user, item in zip(read.users.tolist(), read.items.tolist(), strict=True)
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.csv", "user_id,item_id\nu1,B1\nu1,B2\nu2,B1\n"),
        ("x.csv", "user_id, item_id, rating\nu1, B1, 4\n u1 ,B2,4\nu2,B1 ,4\n"),
        ("x.csv", 'user_id, item_id\nu1, "B1"\n"u1", "B2"\nu2,B1\n'),
        ("x.csv", '"User-ID";"ISBN";"Book-Rating"\n"u1";"B1";"8"\n"u1";"B2";"6"\n"u2";"B1";"0"\n'),
        ("x.csv", "UserID,MovieID,Rating,Timestamp\nu1,B1,4,1\nu1,B2,4,1\nu2,B1,1,1\n"),
        ("x.csv", "timestamp,visitorid,event,itemid\n1,u1,buy,B1\n2,u1,view,B2\n3,u2,view,B1\n"),
        ("x.csv", "user_id;item_id;rating\nu1;B1;4,5\nu1;B2;3\nu2;B1;0,5\n"),
        ("x.csv", "user|asin|overall\nu1|B1|4.5\nu1|B2|3\nu2|B1|1\n"),
        ("x.csv", "sep=;\nuser;item\nu1;B1\nu1;B2\nu2;B1\n"),
        ("x.tsv", "reviewerID\tStock Code\nu1\tB1\nu1\tB2\nu2\tB1\n"),
        ("x.txt", "user item\nu1 B1\nu1   B2\nu2 B1\n"),
        ("ratings.dat", "u1::B1::4::9\nu1::B2::3::9\nu2::B1::1::9\n"),
        ("x.inter", "user_id:token\titem_id:token\tlabel:float\nu1\tB1\t1.0\nu1\tB2\t1\nu2\tB1\t1\nu2\tB9\t0.0\n"),
        ("X.CSV", "\ufeffUser_ID,Item_ID\r\nu1,B1\r\n\r\nu1,B2\r\nu2,B1\r\n"),
    ],
)
def test_common_column_names_and_separators_are_recognised(tmp_path: Path, name: str, text: str) -> None:
    assert pairs(write(tmp_path / name, text)) == PAIRS


def test_compressed_and_utf_16_files_are_read(tmp_path: Path) -> None:
    text = "user,item\nu1,B1\nu1,B2\nu2,B1\n"
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(text.encode()))
    assert is_interactions_file(tmp_path / "x.csv.gz")
    assert pairs(tmp_path / "x.csv.gz") == PAIRS
    assert pairs(write(tmp_path / "x.csv", text, "utf-16")) == PAIRS


def test_columns_are_selected_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "User,who,what,Rating,stars\nz,u1,B1,1,5\nz,u1,B2,1,4\nz,u2,B1,1,3\nz,u2,B2,9,1\n")
    named = {"user": "WHO", "item": "what"}
    assert pairs(path, 3.0, **named, rating="stars") == PAIRS
    assert pairs(path, 3.0, **named) == {("u2", "B2")}
    with pytest.raises(ValueError, match=r"--data.interactions.item: no column is named 'w'; there are user, who"):
        pairs(path, user="who", item="w")


def test_columns_without_a_header_are_selected_by_number(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "u1,B1,4,1768073388\nu1,B2,3,1768193864\nu2,B1,5,1767305300\n")
    with pytest.raises(ValueError, match=r"got u1, b1, 4, .*--data.interactions.user"):
        pairs(path)
    assert pairs(path, user="1", item="2") == PAIRS
    assert pairs(path, 4.0, user="1", item="2", rating="3", time="4") == {("u1", "B1"), ("u2", "B1")}
    lists = write(tmp_path / "lists.txt", "u1 B1 B2 B3\nu2 B1 B4 B5\nu3 B1\n")  # all items of a user in one line
    with pytest.raises(ValueError, match=r"line 3 .*it has 2 values, the first line 4"):
        pairs(lists, user="1", item="2")
    for wrong in ({"user": "1", "item": "9"}, {"user": "1"}, {"user": "0", "item": "1"}):
        with pytest.raises(ValueError, match=r"columns by number require a user and an item in 1 .. 4, got"):
            pairs(path, **wrong)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("user,item\nu1,B1\n,B2\n", "line 3 .*user must not be empty, got ''; remove the line"),
        ("user,item\nu1,  \n", "line 2 .*item must not be empty"),
        ("user,item\nu1,B1\nnan,B1\n", "line 3 .*got 'nan'"),
        ("user,item\nu1,B1\nu1,\\N\n", "line 3"),
        ('user,item,note\nu1,B1,"two\nlines"\n,B1,x\n', "line 4 "),
        ("user,item,rating\nu1,B1,\n", "line 2 .*rating must be a number, got ''"),
        ("user,item,rating\nu1,B1,nan\n", "line 2 .*rating must be a number, got 'nan'"),
        ("user,item,rating\nu1,B1,inf\n", "line 2 .*rating must be a number"),
        ('user,item,rating\nu1,B1,"4,5"\n', "line 2 .*rating must be a number, got '4,5'"),
        ("user,item\nu1,B1\nu1,B2,B3\n", "line 3 .*it has 3 values, the first line 2"),
        ("user,item\nu1\n", "line 2 .*item should be its value 2, it has 1"),
    ],
)
def test_an_invalid_line_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pairs(write(tmp_path / "x.csv", text))


def test_spaces_around_items_are_ignored(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "user_id,item_id\nu1,B1\nu2, B1\nu3 ,B1\t\n")
    read = read_ratings(path)
    assert (read.user_ids, read.item_ids) == (("u1", "u2", "u3"), ("B1",))
    assert read_titles(write(tmp_path / "items.csv", "item_id, title\n B1 , A film \n")) == {"B1": "A film"}
    assert read_titles(write(tmp_path / "movies.dat", "1::Heat (1995)::Action\n2::Up::Kids\n")) == {
        "1": "Heat (1995)", "2": "Up",
    }  # fmt: skip


def test_the_recognised_columns_are_reported(tmp_path: Path) -> None:
    lines = [f"u{user},B{item},{item},buy" for user in range(20) for item in range(6)]
    path = write(tmp_path / "x.csv", "\n".join(["visitorid,sku,rating,event", *lines, *lines[:7]]) + "\n")
    data = build_data(DataConfig(name="interactions", path=path, interactions=InteractionsConfig(min_rating=1.0)))
    printed = "\n".join(data.notes)
    taken = "127 interactions, users from visitorid, items from sku, ratings from rating, not used: event"
    for words in (f"{taken}; 105 are used", "5 are repeated and count once"):
        assert words in printed
    assert read_interactions(path).rows.columns.numel() == 120
