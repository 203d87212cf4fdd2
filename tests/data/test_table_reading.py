"""Tables of many programs: notations of numbers, missing-value markers, dates, indices, labels, other formats."""

from __future__ import annotations

import csv
import datetime
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastvae import DataConfig, build_data
from fastvae.data import Data
from fastvae.data.files.dates import date_seconds, spell_date
from fastvae.data.registry import read_source
from fastvae.data.table.cells import MISSING, Reading, local_number
from fastvae.data.table.columns import TABLE_FILE, TableConfig, columns_from_bytes
from fastvae.data.table.file import is_table_file, read_table

NUMBERS = (1234.5, 0.25, -17.125, 98765.0, 3.0)


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def read(path: Path, **options: Any) -> dict[str, list[Any]]:
    return {name: column.tolist() for name, column in read_table(path, TableConfig(**options)).columns.items()}


def build(path: Path, state: dict[str, bytes] | None = None, **options: Any) -> Data:
    return build_data(DataConfig(name="table", path=path, table=TableConfig(**options)), state=state)


def table(path: Path, column: list[str], *, sep: str = ",", name: str = "a") -> Path:
    """Write one column with quoted cells next to a column of consecutive numbers."""
    lines = [f"{name}{sep}n", *(f'"{cell}"{sep}{number}' for number, cell in enumerate(column))]
    return write(path, "\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("cells", "sep"),
    [
        (("1234.5", "0.25", "-17.125", "98765", "3"), ","),
        (("1,234.5", "0.25", "-17.125", "98,765", "3"), ","),
        (("1.234,5", "0,25", "-17,125", "98.765", "3"), ";"),
        (("1 234,5", "0,25", "-17,125", "98 765", "3"), ";"),
        (("1\u202f234,5", "0,25", "\u221217,125", "98\u202f765", "3"), "\t"),
        (("1'234.5", "0.25", "-17.125", "98'765", "3.0"), ","),
        (("$1,234.50", "$0.25", "-$17.125", "$98,765", "$3"), ","),
        (("1.234,50 \u20ac", "0,25 \u20ac", "-17,125\u20ac", "98.765,0 \u20ac", "3 \u20ac"), ";"),
        (("EUR 1234.5", "EUR 0.25", "(EUR 17.125)", "EUR 98,765", "EUR 3"), ","),
        (("1234.5%", ".25 %", "-17.125%", "98765%", "3%"), ","),
    ],
)
def test_a_number_is_the_same_in_every_notation(tmp_path: Path, cells: tuple[str, ...], sep: str) -> None:
    if "(" in "".join(cells):
        cells = tuple(cell.replace("(EUR 17.125)", "EUR -17.125") for cell in cells)
    text = [f"a{sep}n", *((cell if sep == "\t" else f'"{cell}"') + f"{sep}1" for cell in cells)]
    assert read(write(tmp_path / "x.csv", "\n".join(text)))["a"] == list(NUMBERS)


def test_numbers_in_brackets_are_negative() -> None:
    assert local_number("(1,234.50)", ".") == (-1234.5, "")
    assert local_number("12,34,567", ".") == (1234567.0, "")
    for text in ("", "$", "1,23", "1,234,56", "--1", "(1", "$1%", "0,123", "1 23", "e5", "one"):
        assert local_number(text, ".") is None


@pytest.mark.parametrize(("sep", "value"), [(",", 1234.0), (";", 1.234)])
def test_the_delimiter_resolves_ambiguous_marks(tmp_path: Path, sep: str, value: float) -> None:
    assert read(table(tmp_path / "x.csv", ["1,234", "5,678"], sep=sep))["a"] == [value, value + 4444 / (1234 / value)]


def test_other_columns_resolve_marks_before_the_delimiter(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "a;b;c\n1,234;0,5;1.234\n5,678;2,25;12.345\n")
    assert read(path) == {"a": [1.234, 5.678], "b": [0.5, 2.25], "c": [1234.0, 12345.0]}
    path = write(tmp_path / "y.csv", "a;b\n1,234;0.5\n5,678;2.25\n")
    assert read(path) == {"a": [1234.0, 5678.0], "b": [0.5, 2.25]}


def test_an_unresolved_mark_requires_an_option(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", "a\tb\n1,234\t1\n5,678\t2\n")
    with pytest.raises(ValueError, match=r"column a holds '1,234' in line 2: .*--data.table.decimal comma or point"):
        read(path)
    assert read(path, decimal="comma")["a"] == [1.234, 5.678]
    assert read(path, decimal="point")["a"] == [1234.0, 5678.0]


@pytest.mark.parametrize(
    "marker", [*sorted(MISSING - {""}), "", "#N/A", "NaN", "<NA>", "\\N", "NULL", "-", "--", ".", "NaT"]
)
def test_missing_value_markers_of_all_programs_are_recognised(tmp_path: Path, marker: str) -> None:
    values = read(table(tmp_path / "x.csv", ["1.5", marker, "3"]))["a"]
    assert values[::2] == [1.5, 3.0]
    assert np.isnan(values[1])


def test_a_dash_in_a_column_of_words_is_a_category(tmp_path: Path) -> None:
    assert read(table(tmp_path / "x.csv", ["red", "-", "N/A"]))["a"] == ["red", "-", ""]


def test_true_and_false_are_read_as_one_and_zero(tmp_path: Path) -> None:
    assert read(table(tmp_path / "x.csv", ["True", "FALSE", "", "true"]))["a"][:2] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("cells", "options"),
    [
        (("2026-01-31", "2026-02-01"), {}),
        (("2026-01-31T00:00:00Z", "2026-02-01T01:00+01:00"), {}),
        (("31.01.2026", "01.02.2026"), {}),
        (("01/31/2026 12:00 AM", "02/01/2026 12:00 AM"), {}),
        (("31/01/2026", "01/02/2026 00:00"), {}),
        (("1/31/2026", "2/1/2026"), {}),
        (("2026/01/31", "2026/2/1"), {}),
    ],
)
def test_dates_are_read_as_numbers(tmp_path: Path, cells: tuple[str, ...], options: dict[str, Any]) -> None:
    expected = [
        datetime.datetime(2026, month, day, tzinfo=datetime.timezone.utc).timestamp()
        for month, day in ((1, 31), (2, 1))
    ]
    assert read(table(tmp_path / "x.csv", list(cells)), **options)["a"] == expected


def test_an_ambiguous_date_requires_an_option(tmp_path: Path) -> None:
    path = table(tmp_path / "x.csv", ["01/02/2026", "03/04/2026"])
    with pytest.raises(ValueError, match=r"column a holds '01/02/2026' in line 2: is that the day .* day-first"):
        read(path)
    february, january = read(path, dates="day-first")["a"][0], read(path, dates="month-first")["a"][0]
    assert (spell_date(february), spell_date(january)) == ("2026-02-01", "2026-01-02")
    assert date_seconds("2026-13-01", "ymd") is None


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (
            ["1.5", "2", "3", "4", "5", "oops"],
            "column a holds 'oops' in line 7, and 5 of the column's 6 values are num",
        ),
        ([f"{n}.5" for n in range(10)] + ["1,5"], "column a holds '1,5' in line 12"),
        (["$1", "$2", "\u20ac3"], "column a holds '\u20ac3' in line 4, and '\\$1' above it: one column has one unit"),
        ([f"id{n}" for n in range(60)], "column a holds 'id0' in line 2, and 60 of .*--data.table.id a or"),
    ],
)
def test_a_column_of_mixed_values_is_refused(tmp_path: Path, cells: list[str], words: str) -> None:
    path = table(tmp_path / "x.csv", cells)
    with pytest.raises(ValueError, match=words) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert list(read(path, ignore=("a",))) == ["n"]
    assert read(path, categorical=("a",))["a"] == cells
    named = read_table(path, TableConfig(id="a"))
    assert named.ids is not None
    assert (list(named.columns), named.ids.tolist()) == (["n"], cells)


def test_categories_and_memory_are_limited(tmp_path: Path) -> None:
    path = table(tmp_path / "x.csv", [f"c{number % 40}" for number in range(400)])
    with pytest.raises(ValueError, match=r"column a has 40 categories, the limit is 30; raise --data.table.max-cat"):
        build(path, max_categories=30)
    config = DataConfig(name="table", path=path, max_gib=400 * 41 * 4 / 2**30)
    with pytest.raises(ValueError, match=r"--data.max-gib\); column a alone has 41 of the 42 elements of a row"):
        build_data(config)
    wide = table(tmp_path / "wide.csv", ["x" * 10_000, *"y" * 99])
    with pytest.raises(ValueError, match="column a has texts of up to 10,000 letters"):
        build_data(DataConfig(name="table", path=wide, max_gib=1e6 / 2**30))


@pytest.mark.parametrize(
    "text",
    [
        "101.89,2.845,south\n98.02,8.817,north\n109.6,25.5,south\n",
        "1,2\n3,4\n",
        "red,1\nblue,2\nred,1\n",
        "5,red\n6,blue\n5,red\n7,red\n",
        "1,234;5\n5,678;6\n",
    ],
)
def test_a_file_without_a_header_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="first line must name each column, got what looks like a row"):
        read(write(tmp_path / "x.csv", text))


def test_years_may_be_column_names(tmp_path: Path) -> None:
    assert list(read(write(tmp_path / "x.csv", "site,2019,2020\na,1.5,2\nb,2.5,3\na,1,1\n"))) == [
        "site",
        "2019",
        "2020",
    ]


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_an_index_column_is_ignored(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "x.csv", f"{name},a,b\n7,1.5,2\n3,2.5,3\n4,2,2\n5,1,0\n")
    data = build(path)
    assert data.event_shape == (2,)
    assert any("it numbers the rows" in note for note in data.notes)


def test_an_unnamed_column_is_refused_unless_it_is_empty(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got none for column 2"):
        read(write(tmp_path / "x.csv", "a,,b\n1,2,3\n"))
    with pytest.raises(ValueError, match="column 1 has no name"):
        read(write(tmp_path / "x.csv", ",b\nred,3\nred,4\n"))
    assert read(write(tmp_path / "x.csv", "a,b,\n1,2,\n3,4,\n")) == {"a": [1.0, 3.0], "b": [2.0, 4.0]}


@pytest.mark.parametrize(
    "text",
    [
        "a b\n1.5 2\n3 4\n",
        "a   b\n1.5    2\n  3    4\n",
        "a|b\n1.5|2\n3|4\n",
        "sep=;\na;b\n1,5;2\n3;4\n",
        "sep=|\r\na|b\r\n1.5|2\r\n3|4\r\n",
    ],
)
def test_delimiters_are_recognised(tmp_path: Path, text: str) -> None:
    assert read(write(tmp_path / "x.csv", text)) == {"a": [1.5, 3.0], "b": [2.0, 4.0]}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
def test_encodings_and_compression_are_recognised(tmp_path: Path, encoding: str) -> None:
    text = "gr\u00f6\u00dfe,b\r\n1.5,2\r\n3,4\r\n"
    expected = {"gr\u00f6\u00dfe": [1.5, 3.0], "b": [2.0, 4.0]}
    assert read(write(tmp_path / "X.CSV", text, encoding)) == expected
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(text.encode(encoding)))
    assert is_table_file(tmp_path / "x.csv.gz")
    assert read(tmp_path / "x.csv.gz") == expected
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(text.encode(encoding))[:-12])
    with pytest.raises(ValueError, match=r"x.csv.gz: not a gzip file, or damaged"):
        read(tmp_path / "x.csv.gz")


def test_errors_have_the_line_numbers_of_the_file(tmp_path: Path) -> None:
    text = 'sep=,\na,b\n1,"upper\n\nfloor"\n2,x\n\n3\n'
    with pytest.raises(ValueError, match="line 8 has 1 values, the first line names 2"):
        read(write(tmp_path / "x.csv", text))
    text = 'a,b\n1,"upper\nfloor"\n2,x\n3,y\n4,y\n5,y\n\nsix,y\n'
    with pytest.raises(ValueError, match="column a holds 'six' in line 9"):
        read(write(tmp_path / "x.csv", text))


@pytest.mark.parametrize("values", [("True", "False"), ("1", "0"), ("1.0", "0.0"), ("TRUE", "FALSE")])
def test_label_columns_are_recognised(tmp_path: Path, values: tuple[str, str]) -> None:
    data = build(table(tmp_path / "x.csv", [values[number % 10 != 0] for number in range(40)], name="Is_Anomaly"))
    assert data.event_shape == (1,)
    assert data.train.labels is not None
    assert data.test.labels is not None
    assert int(data.train.labels.sum()) + int(data.test.labels.sum()) == 4


@pytest.mark.parametrize(
    ("values", "name"), [(("attack", "normal"), "label"), (("-1", "1"), "y"), (("2", "1"), "outlier")]
)
def test_unknown_label_values_require_an_option(tmp_path: Path, values: tuple[str, str], name: str) -> None:
    path = table(tmp_path / "x.csv", [values[number % 10 != 0] for number in range(40)], name=name)
    with pytest.raises(
        ValueError, match=rf"column {name}, line 2: .*got {values[0]};.*--data.table.anomaly={values[0]}"
    ):
        build(path)
    labels = read_table(path, TableConfig(anomaly=values[:1])).labels
    assert labels is not None
    assert labels.tolist() == [number % 10 == 0 for number in range(40)]
    with pytest.raises(ValueError, match=r"and none of anomaly=other"):
        read_table(path, TableConfig(anomaly=("other",)))
    assert name in read(path, find_label=False)
    assert name in read(path, categorical=(name,))


@pytest.mark.parametrize("option", [{"ignore": ("z",)}, {"id": "z"}, {"categorical": ("z",)}, {"label": "z"}])
def test_a_missing_column_is_refused_by_name(tmp_path: Path, option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no column is named 'z'; there are a, n"):
        read(table(tmp_path / "x.csv", ["1", "2"]), **option)


def test_a_column_has_one_role() -> None:
    with pytest.raises(ValueError, match="one of label, id, ignore and categorical, got 'a' more than once"):
        TableConfig(label="a", ignore=("b", "a"))


def test_the_schema_is_printed_and_saved(tmp_path: Path) -> None:
    rows = [
        f"r{n};{n % 7 + 0.5};{n % 28 + 1:02}.01.2026;{'north' if n % 3 else 'south'};{int(n % 9 == 0)}"
        for n in range(40)
    ]
    rows[3] = "r3;;03.01.2026;north;0"
    path = write(tmp_path / "x.csv", "\n".join(["name;size;day;site;label", *rows]).replace(".5", ",5"))
    data = build(path, id="name")
    printed = "\n".join(data.notes)
    for words in (
        "number (decimal comma); 0.5 .. 6.5; 1 missing",
        "2026-01-01 .. 2026-01-28",
        "2 categories; north, south",
    ):
        assert words in printed
    kept = {column["name"]: column for column in json.loads(data.state["schema.json"])}
    assert {name: column["part"] for name, column in kept.items()} == {
        "size": "input", "day": "input", "site": "input", "name": "id", "label": "label",
    }  # fmt: skip
    day = columns_from_bytes(data.state[TABLE_FILE])[1]
    assert day.decode(day.encode(np.array([1_767_225_600.0, np.nan]), 30.0)) == ["2026-01-01", ""]
    assert not build(path, {**data.state}, id="name").notes  # a finished run has recorded it


def test_a_finished_run_reads_other_notations_of_its_columns(tmp_path: Path) -> None:
    config = DataConfig(name="table", path=write(tmp_path / "x.csv", "a;d\n" + "1,5;2026-01-01\n2,25;2026-01-03\n" * 5))
    data = build_data(config)
    expected = data.train[torch.arange(1)]
    row = "1,5;2026-01-01" if expected[0, 0] < 0.1 else "2,25;2026-01-03"
    for text in (
        f"a;d\n{row}\n",
        f"a,d\n{row.replace(',', '.').replace(';', ',')}\n",
        f"a;d\n{row.replace('-', '/')}\n",
    ):
        source = read_source(write(tmp_path / "y.csv", text), data, config)
        assert torch.equal(source[torch.arange(1)], expected)
    for text, words in (
        ("a;d\n1;2026-01-01\nodd;2026-01-01\n", "column a must hold numbers, as in training, got 'odd' in line 3"),
        ("a;d\n2026-01-01;2026-01-01\n", r"column a must hold number \(decimal comma\), as in training, got date"),
    ):
        with pytest.raises(ValueError, match=words):
            read_source(write(tmp_path / "y.csv", text), data, config)


def test_parquet_arrow_and_excel_files_are_read(tmp_path: Path) -> None:
    arrow, openpyxl = pytest.importorskip("pyarrow"), pytest.importorskip("openpyxl")
    from pyarrow import feather, parquet

    days = [datetime.datetime(2026, 1, day) for day in range(1, 6)]
    columns: dict[str, list[Any]] = {
        "whole": [1, 2, None, 4, 5], "real": [0.5, None, 1.5, 2.0, 2.5], "is_on": [True, False, None, True, True],
        "day": days, "word": ["red", None, "blue", "red", "red"],
    }  # fmt: skip
    frame = arrow.table(columns)
    parquet.write_table(frame.append_column("deep", arrow.array([[1]] * 5)), tmp_path / "x.parquet")
    feather.write_feather(frame, tmp_path / "x.feather")
    book = openpyxl.Workbook()
    for row in (list(columns), *zip(*columns.values(), strict=True)):
        book.active.append(row)
    book.create_sheet("notes")
    book.save(tmp_path / "x.xlsx")
    with pytest.raises(ValueError, match=r"column deep contains list.*--data.table.ignore"):
        read(tmp_path / "x.parquet")
    for name in ("x.parquet", "x.feather", "x.xlsx"):
        assert is_table_file(tmp_path / name)
        found = read_table(tmp_path / name, TableConfig(ignore=("deep",) if name == "x.parquet" else ()))
        np.testing.assert_array_equal(found.columns["whole"], [1, 2, np.nan, 4, 5])
        np.testing.assert_array_equal(found.columns["real"], [0.5, np.nan, 1.5, 2, 2.5])
        np.testing.assert_array_equal(found.columns["is_on"], [1, 0, np.nan, 1, 1])
        assert found.columns["word"].tolist() == ["red", "", "blue", "red", "red"]
        assert found.readings["day"].spell(found.columns["day"][2]) == "2026-01-03"
        assert ("notes" in str(found.excluded)) == (name == "x.xlsx")
        with pytest.raises(ValueError, match="no column is named 'z'"):
            read(tmp_path / name, ignore=("deep", "z") if name == "x.parquet" else ("z",))


@pytest.mark.parametrize(
    ("name", "package"), [("x.parquet", "pyarrow"), ("x.arrow", "pyarrow"), ("x.xlsx", "openpyxl")]
)
def test_the_error_for_a_missing_extra_names_it(
    tmp_path: Path, name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / name).write_bytes(b"PAR1")
    with pytest.raises(ModuleNotFoundError, match=rf"need {package}: pip install 'fastvae\[tables\]'"):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["x.parquet", "x.feather", "x.xlsx"])
def test_a_damaged_frame_is_refused(tmp_path: Path, name: str) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("openpyxl")
    (tmp_path / name).write_bytes(b"PK\x03\x04PAR1damage")
    with pytest.raises(ValueError, match="or a damaged one"):
        read(tmp_path / name)


def test_a_saved_format_reads_its_own_notation_only() -> None:
    assert Reading(kind="local", unit="$").number("3") is None
    assert Reading(kind="local", decimal=",").number("1.234,5") == 1234.5
    assert Reading(kind="time").number("02:05 PM") == 14 * 3600 + 300
    assert Reading(kind="time").spell(14 * 3600 + 300.4) == "14:05:00"
    assert Reading(kind="truth").number("yes") is None


NOTATIONS = {  # group, decimal mark, delimiter
    "english": (",", ".", ","),
    "german": (".", ",", ";"),
    "french": ("\u202f", ",", ";"),
    "swiss": ("\u2019", ".", ","),
    "plain": ("", ".", "\t"),
}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    numbers=st.lists(st.integers(-(10**11), 10**11), min_size=2, max_size=8),
    notation=st.sampled_from(sorted(NOTATIONS)),
    unit=st.sampled_from(["", "%", " %", " \u20ac", "$"]),
)
def test_numbers_are_recovered_from_any_notation(tmp_path: Path, numbers: list[int], notation: str, unit: str) -> None:
    group, mark, delimiter = NOTATIONS[notation]
    exact = [number / 100 for number in numbers]
    cells = [f"{number:,.2f}".translate({ord(","): group, ord("."): mark}) + unit for number in exact]
    lines = [f"a{delimiter}n", *(f"{_quoted(cell, delimiter)}{delimiter}1" for cell in cells)]
    assert read(write(tmp_path / "x.csv", "\n".join(lines)))["a"] == exact


def _quoted(cell: str, delimiter: str) -> str:
    return f'"{cell}"' if delimiter in cell else cell


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(st.text(max_size=6), st.text(max_size=6)), min_size=1, max_size=6))
def test_any_csv_file_is_read_or_refused_in_one_line(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    """For any texts that a CSV writer writes."""
    with (tmp_path / "x.csv").open("w", encoding="utf-8", errors="ignore", newline="") as file:
        csv.writer(file).writerows([("name", "other"), *rows])
    try:
        found = read_table(tmp_path / "x.csv", TableConfig())
    except ValueError as error:
        assert "x.csv" in str(error)  # noqa: PT017 (both outcomes are right)
        return
    assert set(found.columns) <= {"name", "other"}
    assert len(found) <= len(rows)
