"""Kinds of data: selection by the configuration, a user's kind, and the run's record of its data."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fastvae import ModelConfig, RunConfig, TrainConfig
from fastvae.data import (
    DESCRIPTION,
    KINDS,
    Data,
    DataConfig,
    Form,
    Handlers,
    Kind,
    Preprocess,
    Renderer,
    Source,
    State,
    as_data,
    build_data,
    describe,
    find_renderer,
    kind_of,
    kind_options,
    read_source,
    register_kind,
    resolve,
)
from fastvae.data.pixels.numbers import NumberRenderer
from fastvae.data.restore import restore
from fastvae.run.config import resolve as resolve_run


class BaseRenderer(NumberRenderer):
    """Bases of DNA as letters."""

    suffix = ".dna"


def read_bases(path: Path, config: DataConfig, state: State) -> Source:
    rows = [["ACGT".index(base) / 3 for base in line] for line in path.read_text().split()]
    return as_data(torch.tensor(rows), name="dna").train


def load_bases(config: DataConfig, seed: int, state: State) -> Data:
    assert config.path is not None
    rows = [["ACGT".index(base) / 3 for base in line] for line in config.path.read_text().split()]
    return replace(as_data(torch.tensor(rows), test_every=config.test_every, name="dna"), kind="dna")


def load_made_up(config: DataConfig, seed: int, state: State) -> Data:
    return replace(as_data(torch.rand(20, 4), name="made-up"), kind="dna")


def handlers(datasets: tuple[str, ...] = ("made-up",)) -> Handlers:
    def renderer(data: Data) -> Renderer:
        return BaseRenderer()

    return Handlers(
        datasets=dict.fromkeys(datasets, load_made_up),
        forms=(Form("a .dna file", lambda path: path.suffix == ".dna", load_bases, read_bases),),
        preprocess=Preprocess,
        describe=dataclasses.asdict,
        restore=lambda state, described: Preprocess(**described),
        renderer=renderer,
    )


@pytest.fixture
def dna() -> Iterator[Kind]:
    kind = Kind(name="dna", datasets=("made-up",), needs_no_examples="guess them", load_handlers=handlers)
    register_kind(kind)
    yield kind
    del KINDS["dna"]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_declares_its_parts(name: str) -> None:
    kind = KINDS[name]
    assert kind.name == name
    assert set(kind.handlers.datasets) == set(kind.datasets)
    assert set(kind.options) <= {field.name for field in dataclasses.fields(DataConfig)}


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (DataConfig(), "pixels"),
        (DataConfig(name="cifar10"), "pixels"),
        (DataConfig(name="sst2"), "text"),
        (DataConfig(name="sst2", path=Path("x")), "text"),
        (DataConfig(name="table", path=Path("x")), "table"),
        (DataConfig(name="pixels"), "pixels"),
        (DataConfig(name="mnist", path=Path("x")), None),
        (DataConfig(name="file", path=Path("x")), None),
        (DataConfig(name="nothing"), None),
    ],
)
def test_a_configuration_selects_a_kind(config: DataConfig, kind: str | None) -> None:
    assert kind_of(config) == kind


def test_the_options_of_each_kind() -> None:
    assert kind_options()["audio"] == ("audio",)
    assert kind_options()["pixels"] == ("images", "binarize", "dequantize")


@pytest.mark.parametrize("name", ["file", "table", "pixels"])
def test_names_of_user_data_require_a_path(name: str) -> None:
    with pytest.raises(ValueError, match=rf"name={name} needs a path \(--data.path\)"):
        build_data(DataConfig(name=name))


def test_the_table_likelihood_selects_the_table_kind() -> None:
    model = ModelConfig(likelihood="table")
    config = RunConfig(model=model, data=DataConfig(path=Path("x.csv")), train=TrainConfig())
    assert config.data.name == "digits"
    assert resolve_run(config) == resolve_run(resolve_run(config)) == replace(config, data=DataConfig(
        name="table", path=Path("x.csv")
    ))  # fmt: skip


def test_a_users_kind_is_read_and_restored(dna: Kind, tmp_path: Path) -> None:
    assert len(build_data(DataConfig(name="made-up")).train) == 18
    path = tmp_path / "genes.dna"
    path.write_text("ACGT\nAACC\nGGTT\n" * 4)
    for name in ("file", "dna"):
        data = build_data(DataConfig(name=name, path=path))
        assert (data.kind, data.event_shape) == ("dna", (4,))
    assert find_renderer(data).suffix == ".dna"
    assert len(read_source(path, data, DataConfig())) == 10
    assert kind_of(DataConfig(name="made-up")) == "dna"
    state = {**data.state, DESCRIPTION: describe(data)}
    assert len(build_data(DataConfig(path=path), 0, state).train) == len(data.train)
    path.unlink()
    gone = build_data(DataConfig(path=path), 0, state)
    assert gone.preprocess == data.preprocess
    with pytest.raises(ValueError, match=r"the run's examples cannot be read: .*no such file.*; guess them$"):
        len(gone.test)
    assert resolve(DataConfig(name="made-up", path=path)).name == "dna"


@pytest.mark.parametrize("names", [("dna", "sst2"), ("text", "new"), ("file", "new"), ("dna", "dna-2", "mnist")])
def test_a_registered_name_is_refused(names: tuple[str, ...]) -> None:
    known = list(KINDS)
    with pytest.raises(ValueError, match="register_kind: names must be new"):
        register_kind(Kind(name=names[0], datasets=names[1:], load_handlers=handlers))
    assert list(KINDS) == known


def test_data_set_names_must_be_those_of_the_handlers() -> None:
    with pytest.raises(ValueError, match=r"Kind dna: datasets must name those of its handlers, \['made-up'\], got"):
        _ = Kind(name="dna", datasets=("other",), load_handlers=handlers).handlers


def test_data_of_an_unknown_kind_are_shown_as_numbers() -> None:
    data = replace(as_data(torch.rand(20, 4)), kind="graph")
    assert find_renderer(data).suffix == ".csv"
    assert json.loads(describe(data)) == {"name": "data", "kind": "graph", "preprocess": None}


@pytest.mark.parametrize(
    "change", [{"inputs": {"event_shape": [4], "num_token": 3}}, {"inputs": {"event_shape": "4"}}, {"inputs": 3}]
)
def test_unknown_facts_of_the_data_are_refused(change: dict[str, Any]) -> None:
    described = json.loads(describe(as_data(torch.rand(20, 4))))
    with pytest.raises(ValueError, match=r"data\.json of the run does not describe its data"):
        restore({DESCRIPTION: json.dumps({**described, **change}).encode()}, "gone")


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"kind": 3}', b'{"kind": "graph"}', b"[" * 100_000])
def test_a_description_without_a_known_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n" + "1,2\n2,3\n" * 9)
    state = dict(build_data(DataConfig(path=path)).state)
    with pytest.raises(ValueError, match=r"data\.json of the run"):
        build_data(DataConfig(path=path), 0, {**state, DESCRIPTION: content})
