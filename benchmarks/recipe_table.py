"""Write the results of finished runs as a table: python benchmarks/recipe_table.py RUN [RUN ...] --out FILE.md.

The runs are made by `fastvae train RECIPE`; all numbers are read from their evaluation.json and metrics.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import torch
import yaml

import fastvae

COLUMNS = ("elbo_nats", "nll_nats", "nll_standard_error_nats", "rate_nats", "bits_per_dim", "active_units")


def describe(run_dir: Path) -> dict[str, Any]:
    """One run's row: its recipe, number of steps, training time, and evaluation."""
    config = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))
    evaluation = json.loads((run_dir / "evaluation.json").read_text(encoding="utf-8"))
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [0, *(record["step"] for record in records if record["kind"] == "train")]
    rates = [record["examples_per_s"] for record in records if record["kind"] == "train"]
    batch = config["train"]["global_batch_size"]
    seconds = sum((b - a) * batch / rate for a, b, rate in zip(steps, steps[1:], rates, strict=False))
    row = {"recipe": config["recipe"], "seed": config["seed"], "steps": steps[-1], "training_s": round(seconds)}
    return row | {"K": evaluation["num_samples"]} | {name: evaluation[name] for name in COLUMNS}


def table(rows: list[dict[str, Any]]) -> str:
    """Format the rows as a Markdown table."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        cells = (f"{v:.4f}" if isinstance(v, float) else "" if v is None else str(v) for v in row.values())
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, read the runs and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--note", default="", help="a sentence that describes how the runs were made")
    arguments = parser.parse_args()
    hardware = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, fastvae {fastvae.__version__}"
    text = (
        f"# Recipes\n\n{hardware}. {arguments.note}\nBounds are of the test set, nll_nats with K importance samples.\n"
    )
    commands = "\n".join(f"    fastvae train {describe(run)['recipe']}" for run in arguments.runs)
    text += f"\n{commands}\n\n{table([describe(run) for run in arguments.runs])}\n"
    arguments.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
