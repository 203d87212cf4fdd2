"""`fastvae train my_module.py:build`: the options of a run whose model and data a user's file builds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fastvae.commands.parsing import UsageError, parse
from fastvae.commands.run_options import long_name, parse_run
from fastvae.data import DataConfig
from fastvae.models import ModelConfig
from fastvae.run import RunConfig, UserFile, start_file
from fastvae.settings import Settings
from fastvae.train import TrainConfig

if TYPE_CHECKING:
    from fastvae.train import Run


@dataclass(frozen=True, kw_only=True)
class FileRun(Settings):
    """Train the model of a user's file on its data."""

    run_dir: Path | None = None
    """Where the run writes everything; None is runs/FILE."""
    seed: int = 0
    """Decides initial weights, noise and the order of the examples."""
    weights: Path | None = None
    """Start from the weights of this safetensors file; None keeps those of the file's model."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """The training; its defaults are those of the file's TrainConfig."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be in 0..2**32 - 1, got {self.seed}")


def parse_run_or_file(command: str, word: str, words: Sequence[str], other_kinds: Sequence[type] = ()) -> RunConfig:
    """The run of a recipe or of a user's file, for commands that start it in other processes.

    The file is not imported here, so that its model, data and TrainConfig are defaults.

    Raises:
        UsageError: an option is unknown, or a value breaks a rule.
        ValueError: there is no such recipe or file.
    """
    if not UserFile.is_named_by(word):
        return parse_run(command, word, words, other_kinds)
    file, words = UserFile.parse(word), _checked(word, words)
    options = parse(FileRun, words, f"{command} {word}", other_kinds=other_kinds)
    run_dir = _directory(file, options)
    return RunConfig(
        recipe=file.path.stem,
        run_dir=run_dir,
        seed=options.seed,
        model=ModelConfig(),
        data=DataConfig(),
        train=options.train,
    )


def train_file(word: str, words: Sequence[str]) -> Run:
    """Build model and data by a user's file and train, with the options in ``words``.

    Raises:
        UsageError: an option is unknown, or a value breaks a rule.
        ValueError: the file does not exist, or its function returns something else.
    """
    file, words, command = UserFile.parse(word), _checked(word, words), f"train {word}"
    asks = bool({"-h", "--help", "--help-all"} & set(words))
    first = FileRun() if asks else parse(FileRun, words, command)
    built = file.build(first.seed)
    given = ["--help" if each == "--help-all" else each for each in words]
    options = parse(FileRun, given, command, default=FileRun(train=built.config))
    run_dir = _directory(file, options)
    return start_file(file, built, options.train, run_dir=run_dir, seed=options.seed, weights=options.weights)


def _checked(word: str, words: Sequence[str]) -> list[str]:
    """The words with the long names of options.

    Raises:
        UsageError: an option is for model or data, which the file builds.
    """
    named = [long_name(each) for each in words]
    for each in named:
        if re.match(r"--(model|data)\b", each):
            raise UsageError(f"{each}: {word} builds model and data; change them there")
    return named


def _directory(file: UserFile, options: FileRun) -> Path:
    return Path("runs") / file.path.stem if options.run_dir is None else options.run_dir
