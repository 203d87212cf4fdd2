"""Signals: text files `*.signals` with one signal per line, numbers separated by spaces."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fastvae.data import (
    Data,
    DataConfig,
    Form,
    Handlers,
    Kind,
    NumberRenderer,
    Preprocess,
    Source,
    State,
    as_data,
    as_source,
)
from fastvae.own_settings import own_settings
from fastvae.settings import Settings


@dataclass(frozen=True, kw_only=True)
class SignalsConfig(Settings):
    """How signals are read: options --data.signals.NAME."""

    length: int = 16
    """Values of each signal that are used."""


def rows(path: Path, config: DataConfig) -> Tensor:
    """The signals of a file, float32 [N, length]."""
    length = own_settings(config, SignalsConfig).length
    lines = path.read_text().splitlines()
    return torch.tensor([[float(word) for word in line.split()[:length]] for line in lines])


def load(config: DataConfig, seed: int, state: State) -> Data:
    """Training and test examples of a run."""
    data = as_data(rows(Path(config.path), config), test_every=config.test_every, name="signals")
    return dataclasses.replace(data, kind="signals")


def read(path: Path, config: DataConfig, state: State) -> Source:
    """All examples of one file, for a finished run."""
    return as_source(rows(path, config), name="signals")


def handlers() -> Handlers:
    return Handlers(
        datasets={},
        forms=(Form("a .signals file", lambda path: path.suffix == ".signals", load, read),),
        preprocess=Preprocess,
        describe=dataclasses.asdict,
        restore=lambda state, described: Preprocess(**described),
        renderer=lambda data: NumberRenderer(),
    )


KIND = Kind(name="signals", load_handlers=handlers)
