from __future__ import annotations

import pytest

from fastvae.data.interactions.catalogue import Catalogue

FILMS = {
    "1": "Star Wars (1977)",
    "2": "Star Trek (1979)",
    "3": "Alien (1979)",
    "187": "Heat (1995)",
    "5": "187 (1997)",
    "6": "Sabrina (1995)",
    "7": "Sabrina (1954)",
    "8": "Chasing Amy (1997)",
    "9": "Chasing Amy (1997)",
    "10": "3",
}
CATALOGUE = Catalogue(tuple(FILMS), tuple(FILMS.values()))


@pytest.mark.parametrize(
    ("name", "identity"),
    [
        ("star trek", "2"),
        ("Sabrina (1954)", "7"),
        (" lien ", "3"),
        ("187", "5"),  # the title comes before the id
        ("id=187", "187"),
        ("ID= 3", "3"),
        ("3", "10"),
        ("9", "9"),
    ],
)
def test_titles_match_before_ids_and_ids_before_parts_of_titles(name: str, identity: str) -> None:
    assert CATALOGUE.ids[CATALOGUE.find(name)] == identity


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("star", r"'star' can be several items: Star Wars \(1977\) | Star Trek \(1979\); give the whole title of one"),
        ("sabrina", r"'sabrina' matches several items: Sabrina \(1995\) \| Sabrina \(1954\); give the whole title"),
        ("Chasing Amy (1997)", r"Chasing Amy \(1997\) \(id=8\) \| .* \(id=9\); use an ID, as in id=8"),
        ("Aliens", r"no item has 'Aliens' in its title; did you mean Alien \(1979\)"),
        ("id=77", "no item has the id '77'"),
        ("", "no item has '' in its title"),
    ],
)
def test_an_ambiguous_or_unknown_name_lists_the_closest_items(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        CATALOGUE.find(name)
    assert "\n" not in str(caught.value)


def test_case_resolves_otherwise_equal_titles() -> None:
    catalogue = Catalogue(("a", "A", "b"), ("a", "A", "b"))
    assert [catalogue.find(name) for name in ("a", "A", "B", "id=A")] == [0, 1, 2, 1]
    with pytest.raises(ValueError, match=r"'it' matches several items: iT \| IT;"):
        Catalogue(("1", "2"), ("iT", "IT")).find("it")


def test_long_lists_of_candidates_are_truncated() -> None:
    ids = tuple(map(str, range(30)))
    with pytest.raises(ValueError, match=r"film 8 \| film 9 and 20 more; give the whole title of one"):
        Catalogue(ids, tuple(f"film {identity}" for identity in ids)).find("film")


def test_the_displayed_name_of_an_item_finds_it() -> None:
    labels = [CATALOGUE.label(place) for place in range(len(CATALOGUE))]
    assert labels[6:9] == ["Sabrina (1954)", "Chasing Amy (1997) (id=8)", "Chasing Amy (1997) (id=9)"]
    assert len(set(labels)) == len(labels)
    assert Catalogue.from_bytes(CATALOGUE.to_bytes()) == CATALOGUE
