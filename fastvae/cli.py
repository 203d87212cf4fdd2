"""The command line: parse, build, call."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from fastvae import bench, doctor, run
from fastvae.commands.parsing import parse, unknown
from fastvae.recipes import RECIPES, find_recipe
from fastvae.run import RunConfig

RunDirectory = Annotated[Path, tyro.conf.Positional]


@dataclass(frozen=True)
class Evaluate:
    """Bounds of a finished run on its test set, in nats per example."""

    run: RunDirectory
    """The run directory."""
    num_samples: int = 100
    """Importance samples of nll_nats; with 1 it is the negative ELBO."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to compute."""
    json: bool = False
    """Print one JSON object instead of a table."""

    def __call__(self) -> int:
        values = dataclasses.asdict(run.load(self.run, device=self.device).evaluate(self.num_samples))
        print(json.dumps(values) if self.json else evaluation_table(values))
        return 0


@dataclass(frozen=True)
class Sample:
    """Draw new examples from the prior and write them as a picture."""

    run: RunDirectory
    """The run directory."""
    num: int = 64
    """How many examples."""
    seed: int = 0
    """Which ones: the same seed gives the same examples."""
    out: Path | None = None
    """The picture; None is samples.png in the run directory."""

    def __call__(self) -> int:
        print(run.load(self.run).save_samples(self.out, num=self.num, seed=self.seed))
        return 0


@dataclass(frozen=True)
class Reconstruct:
    """Write test examples above their reconstructions as a picture."""

    run: RunDirectory
    """The run directory."""
    num: int = 24
    """How many examples, from the start of the test set."""
    out: Path | None = None
    """The picture; None is reconstructions.png in the run directory."""

    def __call__(self) -> int:
        print(run.load(self.run).save_reconstructions(self.out, num=self.num))
        return 0


@dataclass(frozen=True)
class Encode:
    """Write the posteriors of a data set's examples: an npz file with mu and logvar [N, D], and label [N]."""

    run: RunDirectory
    """The run directory."""
    out: Path
    """The npz file."""
    split: Literal["train", "test"] = "test"
    """Which examples."""

    def __call__(self) -> int:
        print(run.load(self.run).save_latents(self.out, split=self.split))
        return 0


@dataclass(frozen=True)
class Recipes:
    """List the recipes that `fastvae train` knows."""

    def __call__(self) -> int:
        print(recipe_table())
        return 0


@dataclass(frozen=True)
class Doctor:
    """Say what is installed, which backend runs and why, and what to run to fix what is missing."""

    def __call__(self) -> int:
        print(doctor.report_text())
        return 0


@dataclass(frozen=True)
class Bench:
    """Measure the operators on this machine, beside eager PyTorch and the speed of memory."""

    operator: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[OPERATOR]")] = None
    """One operator, such as gaussian_rsample_kl, or noise; None measures all."""
    shape: tuple[int, ...] | None = None
    """Size of each axis, such as 8192 512 (batch, dimensions); None is the operator's own."""
    dtype: Literal["float32", "bfloat16", "float16", "float64"] = "float32"
    """Type of the inputs."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to compute."""
    compiled: bool = False
    """Also measure torch.compile of the eager expression; takes seconds to compile."""
    seconds: float = 2.0
    """Time for each case."""
    json: bool = False
    """Print one JSON object instead of a table."""
    csv: Path | None = None
    """Also write a CSV file, a line for each call."""
    plot: Path | None = None
    """Also sweep the batch size and draw size against GB/s."""

    def __call__(self) -> int:
        options = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        print(bench.run_bench(**options))
        return 0


COMMANDS: dict[str, type[Callable[[], int]]] = {  # `train` is beside them: its options depend on its recipe
    "evaluate": Evaluate,
    "sample": Sample,
    "reconstruct": Reconstruct,
    "encode": Encode,
    "recipes": Recipes,
    "doctor": Doctor,
    "bench": Bench,
}
TRAIN_SUMMARY = "Train a recipe; the same command again goes on from its newest checkpoint."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the process's exit code. Wrong input is one line on stderr and code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        words = take_local_rank(words)
        if not words or words[0] in ("-h", "--help"):
            print(overview())
            return 0 if words else 2
        if words[0] == "train":
            return train(words[1:])
        if words[0] not in COMMANDS:
            raise ValueError(unknown("command", words[0], [*COMMANDS, "train"]))
        return parse(COMMANDS[words[0]], words[1:], words[0])()
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        print(f"fastvae: {error}", file=sys.stderr)
        return 2


def take_local_rank(words: Sequence[str]) -> list[str]:
    """The words without the ``--local_rank=N`` that DeepSpeed's launcher puts among them; N goes to LOCAL_RANK."""
    given = [word for word in words if word.startswith("--local_rank=")]
    for word in given:
        os.environ.setdefault("LOCAL_RANK", word.partition("=")[2])
    return [word for word in words if word not in given]


def train(words: Sequence[str]) -> int:
    """``fastvae train RECIPE [options]``."""
    if not words or words[0] in ("-h", "--help"):
        print(f"usage: fastvae train RECIPE [options]\n\n{TRAIN_SUMMARY}\n\nrecipes:\n{recipe_table()}\n")
        print("`fastvae train RECIPE --help` shows every option with the recipe's value.")
        return 0 if words else 2
    config = parse(RunConfig, words[1:], f"train {words[0]}", default=find_recipe(words[0]))
    finished = run.start(config)
    if finished.evaluation is not None and finished.is_main:
        print(evaluation_table(dataclasses.asdict(finished.evaluation)))
        pictures = sorted(path.name for path in finished.directory.glob("*.png"))
        print(f"run directory  {finished.directory}   ({', '.join(pictures)})")
    return finished.exit_code


def overview() -> str:
    """What ``fastvae --help`` prints."""
    summaries = {"train": TRAIN_SUMMARY, **{name: (kind.__doc__ or "") for name, kind in COMMANDS.items()}}
    lines = [f"  {name:12} {summary.splitlines()[0]}" for name, summary in summaries.items()]
    usage = "usage: fastvae COMMAND [options]      (fastvae COMMAND --help shows a command's options)"
    return "\n".join([usage, "", "commands:", *lines, "", "start here: fastvae train digits"])


def recipe_table() -> str:
    """The recipes, one a line."""
    width = max(map(len, RECIPES))
    return "\n".join(f"  {n:{width}}  {(r.__doc__ or '').splitlines()[0]}" for n, r in RECIPES.items())


def evaluation_table(values: dict[str, Any]) -> str:
    """An evaluation's numbers, one a line, with their units in their names."""
    shown = {name: value for name, value in values.items() if value is not None}
    width = max(map(len, shown))
    return "\n".join(f"{n:{width}}  {v:.4f}" if isinstance(v, float) else f"{n:{width}}  {v}" for n, v in shown.items())
