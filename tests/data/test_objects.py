"""Objects in memory wherever data are taken: as examples of a training, and of a finished run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
from PIL import Image
from scipy import sparse
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

import fastvae
from fastvae.data import as_data, as_source, read_source
from fastvae.data.table.columns import TABLE_FILE, columns_from_bytes
from fastvae.data.table.config import TableConfig
from tests.runs import train

COLUMNS = {
    "height": [1.5, 1.7, None, 1.6, 1.8, 1.4, 1.9, 1.65],
    "colour": ["red", "blue", "red", "red", None, "blue", "red", "blue"],
    "member": [True, False, True, True, False, False, True, False],
}


def read(data: Any) -> Tensor:
    source = as_source(data)
    return source[torch.arange(len(source))]


def frames() -> list[Any]:
    """The same rows as an Arrow table and, where they are installed, as DataFrames."""
    return [pyarrow.table(COLUMNS), *(frame(library) for library in ("pandas", "polars"))]


def frame(library: str) -> Any:
    return pytest.importorskip(library).DataFrame(COLUMNS)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(())


@pytest.mark.parametrize("make", [sparse.csr_matrix, sparse.coo_array, sparse.csc_array])
def test_sparse_matrices_are_dense_examples(make: Any) -> None:
    dense = np.array([[0, 1.5, 0], [0, 0, 0], [2, 0, 3]], dtype=np.float64)
    source = as_source(make(dense))
    assert source.event_shape == (3,)
    assert source[torch.tensor([2, 0, 1])].tolist() == dense[[2, 0, 1]].tolist()
    assert source[torch.empty(0, dtype=torch.int64)].shape == (0, 3)
    labels = as_source((make(dense), [2, 0, 1])).labels
    assert labels is not None
    assert labels.tolist() == [2, 0, 1]
    assert as_source(make(dense > 0)).levels == 2


def test_a_sparse_tensor_is_its_dense_tensor() -> None:
    dense = torch.eye(3)
    assert torch.equal(read(dense.to_sparse()), dense)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_images_are_pixels(mode: str) -> None:
    channels = 1 if mode == "L" else 3
    images = [Image.new("L", (5, 4), 10 * number).convert(mode) for number in range(3)]
    source = as_source(images)
    assert source.event_shape == (channels, 4, 5)
    assert source.dtype == torch.uint8
    assert source[torch.tensor([2])].unique().tolist() == [20]
    assert len(as_source(images[0])) == 1


def test_other_byte_orders_and_wide_floats_are_numbers() -> None:
    for dtype in (">f4", ">f8", np.longdouble):
        assert read(np.full((2, 2), 0.5, dtype=dtype)).tolist() == [[0.5, 0.5]] * 2


def test_a_list_of_labels_belongs_to_the_array_before_it() -> None:
    data = as_data((np.zeros((20, 3), dtype=np.float32), list(range(20))))
    assert len(data.train) == 18
    assert data.test.labels is not None
    assert data.test.labels.tolist() == [0, 10]


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (sparse.csr_matrix(np.eye(3, dtype=np.int64)), TypeError, "got torch.int64.*float32"),
        (sparse.csr_matrix(np.array([[1, 0], [0, np.nan]])), ValueError, "example 1"),
        ([Image.new("I;16", (2, 2))], ValueError, "item 0 has Pillow's mode 'I;16'"),
        ([Image.new("L", (2, 2)), Image.new("L", (3, 2))], ValueError, "item 0 has 2 x 2.*item 1 3 x 2"),
        ([Image.new("L", (2, 2)), 3], TypeError, "item 1.*got int"),
        (["a", "b"], TypeError, "got texts.*name='text'"),
        (np.array([["a", "b"]]), TypeError, "column of a DataFrame"),
        (np.array([[1.0, None]], dtype=object), TypeError, "astype"),
        (np.zeros(3, dtype=[("a", float), ("b", int)]), TypeError, r"pandas.DataFrame\(array\)"),
        (np.ma.masked_greater(np.arange(6.0).reshape(3, 2), 4), ValueError, "got 1 masked.*filled"),
        (np.zeros((3, 2), dtype="datetime64[s]"), TypeError, "astype"),
        ([[1.0, 2.0], [3.0]], ValueError, r"item 0 has shape \[2\].*item 1 \[1\]"),
        ([[1.0, 2.0], [3.0, float("nan")]], ValueError, "item 1.*finite"),
        ([[1, 2], [3, 4]], TypeError, "got torch.int64.*float32"),
        ("examples.npy", TypeError, r"examples.npy.*DataConfig"),
        (Path("examples.npy"), TypeError, r"examples.npy.*DataConfig"),
        (DataLoader(torch.zeros(9, 2), batch_size=4), TypeError, r"loader.dataset.*global_batch_size=4"),  # type: ignore[arg-type]
        (Stream(), TypeError, "IterableDataset Stream.*shards"),
        (pyarrow.table(COLUMNS), TypeError, "as_data"),
    ],
)
def test_other_objects_are_refused_with_the_remedy(data: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        as_source(data)


def test_a_data_loader_reads_a_source() -> None:
    x = torch.arange(12.0).view(6, 2)
    for data in (x, sparse.csr_matrix(x.numpy())):
        batches = list(DataLoader(as_source(data), batch_size=4))  # type: ignore[arg-type]
        assert torch.equal(torch.cat(batches), x)


def test_train_answers_a_data_loader_and_a_stream(tmp_path: Path) -> None:
    for data in (DataLoader(torch.zeros(9, 2)), Stream()):  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"DataLoader|IterableDataset"):
            train(tmp_path / "run", data=data)


def test_dataframes_are_tables_with_their_schema() -> None:
    kept = set()
    for rows in frames():
        data = as_data(rows, table=TableConfig(test_share=0.25))
        assert data.kind == "table"
        columns = columns_from_bytes(data.state[TABLE_FILE])
        assert [column.name for column in columns] == ["height", "colour", "member"]
        assert columns[1].categories is not None
        assert set(columns[1].categories) == {"blue", "red", "(other)"}
        assert any("height" in note for note in data.notes)
        kept.add(data.state[TABLE_FILE])
    assert len(kept) == 1  # the schema does not depend on the library


def test_categories_of_a_dataframe_stay_categories() -> None:
    numbers = pyarrow.array([1, 2, 1, 2]).dictionary_encode()
    data = as_data(pyarrow.table({"kind": numbers, "x": [0.5, 1.5, 2.5, 3.5]}))
    columns = columns_from_bytes(data.state[TABLE_FILE])
    assert columns[0].categories == ("1", "2", "(other)")


def test_training_and_test_rows_may_be_two_dataframes() -> None:
    whole = pyarrow.table(COLUMNS)
    data = as_data((whole.slice(0, 6), whole.slice(6)))
    assert (len(data.train), len(data.test)) == (6, 2)
    with pytest.raises(TypeError, match=r"both be DataFrames, got ndarray.*label="):
        as_data((whole, np.zeros(8)))
    with pytest.raises(ValueError, match=r"table describes .* DataFrame, got ndarray"):
        as_data(np.zeros((4, 2)), table=TableConfig())


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"x": [[1.0], [2.0]]}, "column x contains list"),
        ({"x": ["1", "2", "3", "4", "five"] * 8}, "column x holds 'five' in row 5"),
    ],
)
def test_columns_of_a_dataframe_that_are_no_table_are_named(columns: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        as_data(pyarrow.table(columns))


@pytest.fixture(scope="module")
def table_run(tmp_path_factory: pytest.TempPathFactory) -> fastvae.LoadedRun:
    directory = tmp_path_factory.mktemp("table")
    (directory / "rows.csv").write_text(csv_of(table_rows(40)))
    return finished("anomaly-table", directory, fastvae.DataConfig(name="table", path=directory / "rows.csv"))


@pytest.fixture(scope="module")
def pixel_run(tmp_path_factory: pytest.TempPathFactory) -> fastvae.LoadedRun:
    directory = tmp_path_factory.mktemp("pixels")
    np.save(directory / "pixels.npy", np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8))
    return finished("digits", directory, fastvae.DataConfig(path=directory / "pixels.npy"))


def finished(recipe: str, directory: Path, data: fastvae.DataConfig) -> fastvae.LoadedRun:
    config = fastvae.recipes.find_recipe(recipe)
    short = replace(config.train, steps=2, final_samples=1, checkpoint_every=None, global_batch_size=8)
    fastvae.run.start(replace(config, run_dir=directory / "run", data=data, train=short))
    return fastvae.load(directory / "run")


def table_rows(num: int) -> dict[str, list[Any]]:
    return {
        "height": [1.5 + row / 40 for row in range(num)],
        "colour": ["red" if row % 3 else "blue" for row in range(num)],
    }


def csv_of(columns: dict[str, list[Any]]) -> str:
    rows = zip(*columns.values(), strict=True)
    return "\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n"


def test_a_run_on_a_table_takes_dataframes(table_run: fastvae.LoadedRun, tmp_path: Path) -> None:
    columns = table_rows(9)
    (tmp_path / "new.csv").write_text(csv_of(columns))
    expected = table_run.score(tmp_path / "new.csv")
    for library in (None, "pandas", "polars"):
        rows = pyarrow.table(columns) if library is None else pytest.importorskip(library).DataFrame(columns)
        assert torch.equal(table_run.score(rows), expected)
        assert torch.equal(table_run.encode(rows)["mu"], table_run.encode(tmp_path / "new.csv")["mu"])
    assert table_run.vary(pyarrow.table(table_rows(1)), 3).shape == (3, 4)
    with pytest.raises(TypeError, match="DataFrame with the columns height, colour, got ndarray"):
        table_run.score(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="column height must hold numbers"):
        table_run.score(pyarrow.table({"height": ["tall"], "colour": ["red"]}))


def test_a_run_on_pixels_takes_arrays_images_and_lists(pixel_run: fastvae.LoadedRun) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    expected = pixel_run.encode(pixels)["mu"]
    images = [Image.fromarray(each) for each in pixels]
    for examples in (
        pixels[:, None],
        torch.from_numpy(pixels),
        images,
        list(pixels[:, None]),
        [*images[:-1], images[4]],
    ):
        assert torch.equal(pixel_run.encode(examples)["mu"], expected)
    assert pixel_run.score(images).shape == (5,)
    assert torch.equal(pixel_run.vary(images[0], 2), pixel_run.vary(pixels[:1], 2))
    ends = pixel_run.interpolate(images[0], images[1], steps=2)
    assert torch.allclose(ends, pixel_run.decode(expected[:2]), atol=1e-5)
    with pytest.raises(ValueError, match="vary: must be given one example, got 5"):
        pixel_run.vary(pixels)


@pytest.mark.parametrize(
    ("examples", "error", "words"),
    [
        (np.zeros((3, 8, 8), dtype=np.float32), ValueError, "of torch.uint8, got .* of torch.float32"),
        (np.zeros((3, 9, 9), dtype=np.uint8), ValueError, r"\[1, 8, 8\] .*got \[1, 9, 9\]"),
        (np.zeros((3, 8, 8), dtype=np.int64), TypeError, "float32"),
        (pyarrow.table(COLUMNS), TypeError, "frame.to_numpy"),
        (["a sentence"], TypeError, "got texts"),
        (3, TypeError, "got int"),
    ],
)
def test_a_run_refuses_other_objects(
    pixel_run: fastvae.LoadedRun, examples: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        pixel_run.encode(examples)


def test_a_run_on_text_takes_sentences(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("a b c\nb c a\nc a b\na a b\n")
    config = fastvae.DataConfig(name="text", path=file, text=fastvae.data.TextDataConfig(min_frequency=1))
    data = fastvae.build_data(config)
    rows = torch.arange(2)
    expected = read_source(["c a", " b"], data, config)[rows]
    (tmp_path / "new.txt").write_text("c a\nb\n")
    assert torch.equal(expected, read_source(tmp_path / "new.txt", data, config)[rows])
    assert torch.equal(expected, read_source(np.array(["c a", "b"]), data, config)[rows])
    with pytest.raises(ValueError, match="sentence 1 is empty"):
        read_source(["a", " "], data, config)
    with pytest.raises(TypeError, match="list of sentences, got Table"):
        read_source(pyarrow.table(COLUMNS), data, config)


def test_a_run_on_interactions_takes_a_sparse_matrix(tmp_path: Path) -> None:
    dense = (np.random.default_rng(0).random((60, 12)) < 0.6).astype(np.float32)
    sparse.save_npz(tmp_path / "rows.npz", sparse.csr_matrix(dense))
    config = fastvae.DataConfig(name="interactions", path=tmp_path / "rows.npz")
    data = fastvae.build_data(config)
    expected = read_source(tmp_path / "rows.npz", data, config)[torch.arange(60)].to_dense()
    found = read_source(sparse.coo_array(dense), data, config)
    assert torch.equal(found[torch.arange(60)].to_dense(), expected)
    with pytest.raises(TypeError, match="csr_array"):
        read_source(dense, data, config)


def test_a_run_on_recordings_reads_files_only() -> None:
    data = replace(as_data(torch.rand(20, 4)), kind="audio")
    with pytest.raises(TypeError, match="kind audio reads files"):
        read_source(torch.rand(2, 4), data, fastvae.DataConfig())
