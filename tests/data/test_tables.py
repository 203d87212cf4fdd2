from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fastvae import DataConfig, build_data, noise_key
from fastvae.data.registry import read_source
from fastvae.data.restore import DESCRIPTION, describe
from fastvae.data.table.columns import (
    TABLE_FILE,
    MaskGaps,
    TableConfig,
    columns_from_bytes,
    columns_to_bytes,
    learn_column,
)
from fastvae.data.table.file import is_table_file, read_table

CSV = """height,colour,weight,anomaly
1.0,red,5,0
2.0,,6,0
3.0,blue,NA,0
4.0,red,8,0
5.0,blue,9,1
6.0,red,10,1
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "table.csv"
    file.write_text(CSV)
    return file


def test_the_scale_of_a_column_is_robust_to_outliers() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 2000)
    values[:10] = 1e6
    column = learn_column("x", values)
    assert column.center == pytest.approx(3.0, abs=0.3)
    assert column.scale == pytest.approx(2.0, rel=0.15)
    assert column.encode(values, clip=10.0).max() == 10.0


def test_nearly_constant_and_empty_columns_have_a_scale() -> None:
    values = np.zeros(1000)
    values[:5] = 5.0
    assert learn_column("x", values).scale == pytest.approx(values.std())
    assert learn_column("x", np.full(10, np.nan)).scale == 1.0
    assert learn_column("x", np.full(10, 7.0)).encode(np.full(10, 7.0), 10.0).max() == 0.0


def test_texts_are_categories_and_unknown_ones_share_a_category() -> None:
    column = learn_column("colour", np.array(["red", "", "blue"], dtype=np.str_))
    assert column.categories == ("blue", "red", "(other)")
    encoded = column.encode(np.array(["red", "green", ""], dtype=np.str_), clip=10.0)
    np.testing.assert_array_equal(encoded, [[0, 1, 0], [0, 0, 1], [np.nan] * 3])
    assert columns_from_bytes(columns_to_bytes([column])) == (column,)


def test_a_table_is_recognised_and_split_by_label(path: Path) -> None:
    assert is_table_file(path)
    data = build_data(DataConfig(name="file", path=path))
    assert (data.kind, data.event_shape) == ("table", (1 + 3 + 1,))
    assert data.model_inputs.column_widths == (1, 3, 1)
    assert data.train.labels is not None
    assert data.test.labels is not None
    assert (len(data.train), len(data.test)) == (4, 2)
    assert (data.train.labels.sum(), data.test.labels.sum()) == (1, 1)


def test_missing_values_are_zero_and_masked() -> None:
    raw = torch.tensor([[1.0, float("nan")], [2.0, 3.0]])
    batch = MaskGaps()(raw, noise_key(0), indices=torch.arange(2), evaluation=False)
    assert torch.equal(batch.x, torch.tensor([[1.0, 0.0], [2.0, 3.0]]))
    assert batch.mask is not None
    assert batch.mask.tolist() == [[True, False], [True, True]]
    assert MaskGaps()(raw[1:], noise_key(0), indices=torch.arange(1), evaluation=False).mask is None


def test_other_rows_are_encoded_like_training_rows(path: Path, tmp_path: Path) -> None:
    config = DataConfig(name="file", path=path)
    data = build_data(config)
    other = tmp_path / "other.csv"
    other.write_text("weight,height,colour\n7,3.0,green\n,2.5,red\n")
    source = read_source(other, data, config)
    rows = source[torch.arange(2)]
    assert rows[0, 1:4].tolist() == [0, 0, 1]
    assert rows[1, 4].isnan()
    columns = columns_from_bytes(data.state[TABLE_FILE])
    assert rows[0, 0] == pytest.approx((3.0 - columns[0].center) / columns[0].scale, rel=1e-6)
    other.write_text("weight,height,colour\nheavy,3.0,green\n1,1,red\n")
    with pytest.raises(ValueError, match="column weight must hold numbers, as in training, got 'heavy'"):
        read_source(other, data, config)


def test_categorical_npz_columns_and_a_run_without_its_table(tmp_path: Path) -> None:
    file = tmp_path / "numbers.npz"
    np.savez(file, X=np.arange(40).reshape(20, 2) % 5, y=np.arange(20) % 2)
    config = DataConfig(name="table", path=file, table=TableConfig(categorical=("x1",)))
    data = build_data(config)
    assert data.model_inputs.column_widths == (1, 6)
    file.unlink()
    kept = build_data(config, state={**data.state, DESCRIPTION: describe(data)})  # as saved by a run
    assert kept.event_shape == data.event_shape
    with pytest.raises(ValueError, match=r"examples cannot be read: .*no such file or folder; restore the data"):
        len(kept.train)


def test_breast_cancer_is_read_from_scikit_learn() -> None:
    data = build_data(DataConfig(name="breast-cancer"), seed=3)
    assert data.train.labels is not None
    assert len(data.train) + len(data.test) == 378
    assert data.train.labels.sum() == 15


@pytest.mark.parametrize(
    ("text", "config", "message"),
    [
        ("a,b\n1,2,3\n", TableConfig(), "line 2 has 3 values"),
        ("a,b\n", TableConfig(), "no rows"),
        ("1,2\n3,4\n", TableConfig(), "first line must name each column"),
        ("a,a\n3,4\n", TableConfig(), "first line must name each column"),
        ("a,bad\n3,2\n", TableConfig(label="bad"), "must contain 0 and 1 only"),
        ("a,b\n3,4\n", TableConfig(label="c"), "no column is named 'c'; there are a, b"),
        ("a,b\n3,4\n", TableConfig(categorical=("c",)), "no column is named 'c'"),
        ("label\n1\n", TableConfig(), "no column is left"),
    ],
)
def test_an_invalid_table_is_a_one_line_error(tmp_path: Path, text: str, config: TableConfig, message: str) -> None:
    file = tmp_path / "wrong.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_table(file, config)
    assert "\n" not in str(caught.value)
