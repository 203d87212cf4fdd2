"""Signals: text files `*.signals` with one signal per line, numbers separated by spaces."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch

from fastvae.data import Data, DataConfig, Form, Handlers, Kind, NumberRenderer, Preprocess, Source, State, as_data
from fastvae.own_settings import own_settings
from fastvae.settings import Settings


@dataclass(frozen=True, kw_only=True)
class SignalsConfig(Settings):
    """How signals are read: options --data.signals.NAME."""

    length: int = 16
    """Values of each signal that are used."""


def load(config: DataConfig, seed: int, state: State) -> Data:
    """Training and test examples of a run."""
    length = own_settings(config, SignalsConfig).length
    lines = Path(config.path).read_text().splitlines()
    rows = torch.tensor([[float(word) for word in line.split()[:length]] for line in lines])
    return dataclasses.replace(as_data(rows, test_every=config.test_every, name="signals"), kind="signals")


def read(path: Path, config: DataConfig, state: State) -> Source:
    """All examples of one file, for a finished run."""
    return load(dataclasses.replace(config, path=path, test_every=10**9), 0, state).train


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
