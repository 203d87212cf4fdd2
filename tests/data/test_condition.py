"""Conditions: values given by name, labels of the examples, and batches with conditions."""

from __future__ import annotations

import pytest
import torch

from fastvae.data import (
    ConditionField,
    Conditions,
    DataConfig,
    Loader,
    NumberField,
    as_data,
    build_data,
    condition_on,
    evaluation_batches,
)

SEASON = ConditionField("season", ("spring", "summer", "autumn"))
HEIGHT = NumberField("height", low=100.0, high=200.0)
BOTH = Conditions((SEASON, HEIGHT))


def test_a_class_is_given_by_name_or_index() -> None:
    assert SEASON.vector("summer").tolist() == SEASON.vector(1).tolist() == SEASON.vector("1").tolist() == [0, 1, 0]


def test_numeric_class_names_are_names() -> None:
    assert ConditionField("length", ("5", "0")).vector(0).tolist() == [0, 1]


def test_an_index_is_refused_if_class_names_are_numeric() -> None:
    stars = ConditionField("label", ("1", "2", "3"))
    assert stars.vector(1).tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match="label must be one of 1, 2, 3, got '0'"):
        stars.vector(0)


def test_fields_are_concatenated_in_order() -> None:
    assert BOTH.size == 4
    assert BOTH.vector(season="autumn", height=150).tolist() == [0, 0, 1, 0.5]


def test_values_that_are_not_given_cycle() -> None:
    vectors = BOTH.vectors(5, height=200)
    assert vectors[:, :3].argmax(1).tolist() == [0, 1, 2, 0, 1]
    assert vectors[:, 3].tolist() == [1.0] * 5


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"season": "winter", "height": 120}, "season must be one of spring, summer, autumn, got 'winter'"),
        ({"season": 3, "height": 120}, "got '3'"),
        ({"season": 0, "height": "tall"}, "height must be a number, in the data 100 .. 200, got 'tall'"),
        ({"season": 0}, "a value is needed for height"),
        ({"season": 0, "height": 120, "label": 2}, "conditioned on season, height, not on label"),
    ],
)
def test_invalid_values_are_refused_by_name(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        BOTH.vector(**values)  # type: ignore[arg-type]


def test_batches_carry_the_labels_of_their_examples() -> None:
    examples = torch.arange(40, dtype=torch.float32).view(20, 2)
    data = condition_on(as_data((examples, torch.arange(20) % 3)), ["label"])
    assert data.condition_dim == 3
    for micro in Loader(data.train, data.preprocess, global_batch_size=6, seed=3, accumulation=2).load(4):
        label = (micro.batch.x[:, 0] / 2) % 3  # the example's number
        assert micro.batch.condition is not None
        assert torch.equal(micro.batch.condition.argmax(1), label.long())
        assert torch.equal(micro.batch.condition.sum(1), torch.ones(len(label)))
    (whole,) = evaluation_batches(data.test, data.preprocess, batch_size=9, seed=3)
    assert whole.batch.condition is not None
    assert data.test.labels is not None
    assert torch.equal(whole.batch.condition.argmax(1), data.test.labels)


def test_a_configuration_selects_its_conditions() -> None:
    data = build_data(DataConfig(name="digits", condition=("label",)))
    assert data.conditions is not None
    assert data.conditions.vector(label="7").argmax() == 7
    assert build_data(DataConfig(name="digits")).train.conditions is None


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["labell"], "have no labell to condition on; choose from label: --data.condition label"),
        (["label", "label"], "given once"),
    ],
)
def test_unknown_conditions_are_refused_by_name(names: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        condition_on(build_data(DataConfig(name="digits")), names)


def test_data_without_labels_have_no_condition() -> None:
    with pytest.raises(ValueError, match="have no label to condition on; leave --data"):
        condition_on(as_data(torch.rand(10, 2)), ["label"])
