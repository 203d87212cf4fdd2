"""VAETransformer: the rules of scikit-learn, pipelines, searches, and DataFrames with categories and gaps."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastvae.sklearn import VAETransformer

FAST: dict[str, Any] = {"latent_dim": 2, "hidden_dim": (8,), "steps": 2, "random_state": 0}


def mixed(num: int = 60) -> dict[str, list[Any]]:
    """Rows whose height says which colour they have; every seventh has no height."""
    return {
        "height": [None if row % 7 == 3 else 10.0 * (row % 2) + row / num for row in range(num)],
        "colour": ["red" if row % 2 else "blue" for row in range(num)],
    }


@parametrize_with_checks([VAETransformer(**FAST)])
def test_the_rules_of_scikit_learn(estimator: VAETransformer, check: Any) -> None:
    check(estimator)


def test_pipelines_and_searches() -> None:
    x, y = load_iris(return_X_y=True)
    pipeline = make_pipeline(VAETransformer(**{**FAST, "steps": 60, "learning_rate": 0.01}), LogisticRegression())
    assert pipeline.fit(x, y).score(x, y) > 0.8
    search = GridSearchCV(VAETransformer(**FAST), {"latent_dim": [1, 2]}, cv=2).fit(x)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_one_width_is_one_hidden_layer() -> None:
    x = np.random.default_rng(0).random((30, 3))
    for width in (8, np.int64(8)):
        one, several = (VAETransformer(**{**FAST, "hidden_dim": each}).fit(x).transform(x) for each in (width, (8,)))
        np.testing.assert_array_equal(one, several)


def test_a_fit_is_quiet_and_leaves_no_files(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    VAETransformer(**FAST).fit(np.random.default_rng(0).random((30, 3)))
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_copies_and_pickles_give_the_same_latents() -> None:
    x = np.random.default_rng(0).random((30, 3))
    fitted = VAETransformer(**FAST).fit(x)
    expected = fitted.transform(x)
    for other in (pickle.loads(pickle.dumps(fitted)), clone(fitted).fit(x)):
        np.testing.assert_array_equal(other.transform(x), expected)
        np.testing.assert_array_equal(other.score_samples(x), fitted.score_samples(x))
    assert not np.array_equal(clone(fitted).set_params(random_state=1).fit(x).transform(x), expected)
    assert list(fitted.get_feature_names_out()) == ["vaetransformer0", "vaetransformer1"]


def test_dataframes_have_categories_and_gaps() -> None:
    columns = mixed()
    table = pyarrow.table(columns)
    model = VAETransformer(**{**FAST, "steps": 100, "learning_rate": 0.02}).fit(table)
    assert list(model.feature_names_in_) == ["height", "colour"]
    restored = model.inverse_transform(model.transform(table))
    assert restored.shape == (60, 2)
    assert list(restored[:, 1]) == columns["colour"]
    heights = [(found, height) for found, height in zip(restored[:, 0], columns["height"], strict=True) if height]
    assert max(abs(found - height) for found, height in heights) < 5
    usual, unusual = (pyarrow.table({"height": [10.5], "colour": [colour]}) for colour in ("red", "blue"))
    assert model.score_samples(usual) > model.score_samples(unusual)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_dataframes_of_every_library_give_the_same_latents(library: str) -> None:
    table, rows = pyarrow.table(mixed()), pytest.importorskip(library).DataFrame(mixed())
    model = VAETransformer(**FAST).fit(rows)
    np.testing.assert_array_equal(model.transform(rows), model.transform(table))
    np.testing.assert_array_equal(model.transform(rows), VAETransformer(**FAST).fit(table).transform(table))


def test_rows_that_are_not_like_those_of_the_fit_are_refused() -> None:
    model = VAETransformer(**FAST).fit(pyarrow.table(mixed()))
    with pytest.raises(ValueError, match="with categories, got ndarray"):
        model.transform(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="feature names"):
        model.transform(pyarrow.table({"height": [1.0], "color": ["red"]}))
    with pytest.raises(ValueError, match=r"latents must be \[N, 2\], got shape \[3, 5\]"):
        model.inverse_transform(np.zeros((3, 5)))
    with pytest.raises(ValueError, match="categorical names columns of a DataFrame"):
        VAETransformer(**FAST, categorical=("x0",)).fit(np.zeros((3, 2)))


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "WORLD_SIZE": "2",
        "RANK": "0",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "x",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"one process, got several|WORLD_SIZE"):
        VAETransformer(**FAST).fit(np.zeros((3, 2)))
