"""Negative log-likelihood of dynamically binarised MNIST with one and two stochastic layers and K = 1, 5, 50.

    python benchmarks/app_likelihood.py --minutes-per-row 10 [--rows 1-1 1-5 1-50 2-1 2-5 2-50] [--samples 500]
    python benchmarks/app_likelihood.py --rows 1-1 1-5 1-50 --epochs 300 300 300 --precision bf16

A row LAYERS-K trains the recipe mnist-iwae (or mnist-iwae-2l) with K importance samples and a cosine decay of the
learning rate. It trains for the given number of epochs, or for as many steps as fit into the given minutes, according
to a measurement of the first steps. Then it computes the bound on the test set with ``--samples`` samples in float32. A
row whose run is finished is not trained again. The table keeps its rows with other numbers of epochs, and the
comparison of different K uses the whole table. Each row is compared with the result of Burda et al. 2016 (arXiv
1509.00519, table 1) after 3280 epochs with 5000 samples.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import yaml
from applications import MONTH, RESULTS, Figure, figure, write_figures

import fastvae
from fastvae.recipes import find_recipe
from fastvae.run import RunConfig, start

PUBLISHED = {"1-1": 86.76, "1-5": 85.54, "1-50": 84.78, "2-1": 85.33, "2-5": 83.89, "2-50": 82.90}
TRAIN_IMAGES = 60_000
Table = dict[tuple[int, int, int], tuple[float, float]]  # layers, epochs, K -> NLL in nats, training time in seconds
BAR_NATS, BAR_EPOCHS = 88.0, 300  # the largest NLL of row 1-1, if it has at least this number of epochs


@dataclass(frozen=True)
class Training:
    """The training settings of a row."""

    minutes: float
    epochs: float | None = None  # if set, minutes is ignored
    precision: Literal["fp32", "bf16"] = "fp32"


def row_config(row: str, directory: Path, seed: int, precision: Literal["fp32", "bf16"]) -> RunConfig:
    """The recipe of a row LAYERS-K."""
    layers, num_samples = row.split("-")
    recipe = find_recipe("mnist-iwae" if layers == "1" else "mnist-iwae-2l")
    objective = replace(recipe.train.objective, num_samples=int(num_samples))
    settings = replace(
        recipe.train,
        objective=objective,
        precision=precision,
        eval_every=None,
        checkpoint_every=2000,
        final_samples=1,
    )
    return replace(recipe, run_dir=directory, seed=seed, train=settings)


def steps_that_fit(config: RunConfig, minutes: float) -> int:
    """The number of steps that fit into the minutes at the speed of a short run (of its second half)."""
    with tempfile.TemporaryDirectory() as folder:
        probe = replace(config.train, steps=60, log_every=30, checkpoint_every=None)
        start(replace(config, run_dir=Path(folder), train=probe))
        records = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    rate = [record["examples_per_s"] for record in records if record["kind"] == "train"][-1]
    return max(100, round(rate * 60 * minutes / config.train.global_batch_size))


def saved_steps(path: Path) -> int:
    """The number of steps that an earlier call chose, from the run's configuration."""
    return int(yaml.safe_load(path.read_text(encoding="utf-8"))["train"]["steps"])


def run_row(row: str, training: Training, samples: int, seed: int, runs: Path) -> dict[str, float]:
    """Train a row's run, or resume it, and return its evaluation in float32, its epochs, and its training time."""
    config = row_config(row, runs / row, seed, training.precision)
    saved = config.directory / "config.yaml"
    if saved.exists():
        steps = saved_steps(saved)
    elif training.epochs is not None:
        steps = round(training.epochs * TRAIN_IMAGES / config.train.global_batch_size)
    else:
        steps = steps_that_fit(config, training.minutes)
    start(replace(config, train=replace(config.train, steps=steps)))
    evaluation = fastvae.load(config.directory).evaluate(num_samples=samples)
    assert evaluation.nll_nats is not None
    return {
        "nll_nats": evaluation.nll_nats,
        "standard_error_nats": evaluation.nll_standard_error_nats or 0.0,
        "active_units": evaluation.active_units or 0,
        "epochs": steps * config.train.global_batch_size / TRAIN_IMAGES,
        "seconds": training_seconds(config.directory, config.train.global_batch_size),
    }


def training_seconds(directory: Path, batch_size: int) -> float:
    """A run's training time from its metrics, which include earlier calls and resumed runs."""
    records = [json.loads(line) for line in (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    rates = {0: 1.0} | {one["step"]: one["examples_per_s"] for one in records if one["kind"] == "train"}
    return sum((step - last) * batch_size / rates[step] for last, step in pairwise(sorted(rates)))


def figures_of(results: dict[str, dict[str, float]], samples: int, seed: int, known: Table) -> list[Figure]:
    """A figure per row, and comparisons of different K among the table's rows with the same number of epochs."""
    figures = []
    lengths = {(int(row.split("-")[0]), round(found["epochs"])) for row, found in results.items()}
    for row, found in results.items():
        layers, num_samples = row.split("-")
        held = row == "1-1" and found["epochs"] >= BAR_EPOCHS
        name = f"NLL of MNIST, {layers} layer(s), K = {num_samples}, {found['epochs']:.0f} epochs"
        figures.append(
            figure(
                "images",
                f"{name} (nats, {samples} draws)",
                found["nll_nats"],
                at_most=BAR_NATS if held else None,
                seed=seed,
                seconds=found["seconds"],
                note=f"+- {found['standard_error_nats']:.2f}; published {PUBLISHED[row]} in 3280 epochs",
            )
        )
    for depth, epochs, less in sorted(known):
        more = {1: 5, 5: 50}.get(less)
        if (depth, epochs) not in lengths or more is None or (depth, epochs, more) not in known:
            continue
        (few_nats, _), (many_nats, seconds) = known[depth, epochs, less], known[depth, epochs, more]
        name = f"{depth} layer(s): NLL of K = {less} minus that of K = {more}, {epochs} epochs (nats)"
        figures.append(figure("images", name, few_nats - many_nats, at_least=0.0, seed=seed, seconds=seconds))
    return figures


def write_table(path: Path, results: dict[str, dict[str, float]], samples: int) -> Table:
    """Write the rows as a Markdown table, which keeps its rows with other numbers of epochs."""
    lines = _rows_of(path) if path.exists() else {}
    for row, found in results.items():
        layers, num_samples = map(int, row.split("-"))
        lines[layers, round(found["epochs"]), num_samples] = (
            f"| {layers} | {num_samples} | {found['nll_nats']:.2f} | {found['standard_error_nats']:.2f} |"
            f" {found['active_units']:.0f} | {found['epochs']:.0f} | {found['seconds']:.0f} | {PUBLISHED[row]} |"
        )
    heading = [
        "# Dynamically binarised MNIST, negative log-likelihood in nats",
        "",
        f"Bounds with {samples} samples on the 10 000 test images after the given number of epochs. Published: Burda et"
        " al. 2016, 3280 epochs, 5000 samples.",
        "",
        "| layers | K | NLL | +- | active units | epochs | s of training | published |",
        "|---|---|---|---|---|---|---|---|",
    ]
    path.write_text("\n".join([*heading, *(lines[key] for key in sorted(lines)), ""]), encoding="utf-8")
    cells = {key: line.split("|") for key, line in lines.items()}
    return {key: (float(row[3]), float(row[7])) for key, row in cells.items()}


def _rows_of(path: Path) -> dict[tuple[int, int, int], str]:
    """The rows of a table by layers, epochs and K."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if re.match(r"\| \d", line)]
    cells = [line.split("|") for line in lines]
    return {(int(row[1]), int(row[6]), int(row[2])): line for row, line in zip(cells, lines, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure negative log-likelihoods of MNIST.")
    parser.add_argument("--minutes-per-row", type=float, default=10.0, help="training time, without the evaluation")
    parser.add_argument("--rows", nargs="+", default=list(PUBLISHED), choices=list(PUBLISHED), help="LAYERS-K")
    parser.add_argument("--epochs", type=float, nargs="+", help="a number per row, instead of --minutes-per-row")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="precision of training")
    parser.add_argument("--samples", type=int, default=500, help="number of samples of the bound")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/app-likelihood"))
    parser.add_argument("--out", type=Path, default=RESULTS / f"app_likelihood_{MONTH}.json")
    options = parser.parse_args()
    if options.epochs is not None and len(options.epochs) != len(options.rows):
        parser.error(f"--epochs: must have one number per row, {len(options.rows)}, got {len(options.epochs)}")
    results: dict[str, dict[str, float]] = {}
    for row, epochs in zip(options.rows, options.epochs or [None] * len(options.rows), strict=True):
        training = Training(options.minutes_per_row, epochs, options.precision)
        results[row] = run_row(row, training, options.samples, options.seed, options.runs)
        known = write_table(options.out.with_suffix(".md"), results, options.samples)
        figures = figures_of(results, options.samples, options.seed, known)
        write_figures("likelihood", figures, options.out, merge=True)


if __name__ == "__main__":
    main()
