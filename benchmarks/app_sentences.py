"""Sentences of one's own: the default run on text files, compared with a 4-gram model.

    python benchmarks/app_sentences.py FILE [FILE ...] [--chosen-on FILE ...]

Each FILE has one sentence per line. `fastvae train sentences --data.path FILE` trains with its default options, without
label and length; every 10th sentence is for testing. The rival is an interpolated Kneser-Ney 4-gram model of the same
training sentences (with those that the run holds out for validation), vocabulary and end tokens. It is also the judge
of samples, on which it was not trained: its perplexity on samples is compared with that on test sentences.
``--chosen-on`` names the files that the recipe's options were chosen on; the others are unseen data.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from applications import Figure, figure, write_figures
from ngrams import KneserNey

import fastvae
from fastvae.data.text.sentences import tokenizer_of
from fastvae.data.views import take
from fastvae.records import END
from fastvae.run import LoadedRun

NUM_TEST = 500  # test sentences of the bound


def train_run(file: Path, directory: Path, options: list[str]) -> LoadedRun:
    """Train by the command of the docs; a finished run is not trained again."""
    command = [sys.executable, "-m", "fastvae", "train", "sentences", f"--data.path={file}", f"--run-dir={directory}"]
    subprocess.run([*command, *options], check=True)
    return fastvae.load(directory)


def likelihood_figures(run: LoadedRun, rival: KneserNey, num_samples: int, common: dict[str, Any]) -> list[Figure]:
    """The bound on some test sentences, compared with the 4-gram model's likelihood of the same sentences."""
    test = run.source("test")
    some = take(test, torch.arange(0, len(test), max(1, len(test) // NUM_TEST)))
    bound = float(run.score(some, num_samples=num_samples).mean())
    ids = with_end(some[torch.arange(len(some))].tolist())
    theirs = sum(map(rival.nll, ids)) / len(ids)
    evaluation = run.evaluate()
    assert evaluation.rate_nats is not None
    tokens = sum(map(len, ids)) / len(ids)
    found = partial(figure, "text, own sentences", **common)
    name = run.config.data.path.stem if run.config.data.path else ""
    note = f"{num_samples} samples on {len(some)} test sentences of {tokens:.1f} tokens; 4-gram {theirs:.2f} nats"
    return [
        found(f"{name}: bound, nats per sentence", bound, at_most=theirs, note=note),
        found(f"{name}: 4-gram, nats per sentence", theirs, note=f"vocabulary {rival.num_tokens:,}"),
        found(f"{name}: KL, nats", evaluation.rate_nats, note=f"{evaluation.active_units} active units"),
    ]


def sample_figures(run: LoadedRun, judge: KneserNey, num: int, common: dict[str, Any]) -> list[Figure]:
    """The judge's perplexity of samples and of test sentences, distinct n-grams, and verbatim copies."""
    tokenizer = tokenizer_of(run.data)
    train, test = (_ids(run, split) for split in ("train", "test"))
    texts = set(tokenizer.decode(train))
    found = partial(figure, "text, own sentences", **common)
    name = run.config.data.path.stem if run.config.data.path else ""
    shown: dict[str, list[list[int]]] = {"test sentences": test[:num]}
    for temperature in (run.config.model.text.temperature, 1.0):
        drawn = run.sample(num, seed=int(common["seed"]), temperature=temperature)
        shown[f"samples at temperature {temperature:g}"] = with_end(drawn.tolist())
    rows = []
    for what, ids in shown.items():
        rows.append(found(f"{name}: perplexity of {what} by the 4-gram", judge.perplexity(ids)))
        rows.append(found(f"{name}: distinct bigrams of {what}", distinct(ids, 2), note=f"{len(ids)} sentences"))
        copied = sum(text in texts for text in tokenizer.decode(ids)) / len(ids)
        rows.append(found(f"{name}: {what} that are training sentences", copied, note="verbatim"))
    return rows


def distinct(rows: list[list[int]], length: int) -> float:
    """The fraction of n-grams that are different (Li et al. 2016, arXiv 1510.03055)."""
    grams = [tuple(row[start : start + length]) for row in rows for start in range(len(row) - length + 1)]
    return len(set(grams)) / len(grams)


def with_end(rows: list[list[int]]) -> list[list[int]]:
    """Cut each row of IDs after its end token."""
    return [row[: row.index(END) + 1] for row in rows]


def _ids(run: LoadedRun, split: str) -> list[list[int]]:
    source = run.source(split)
    return with_end(source[torch.arange(len(source))].tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare default runs on text files with a 4-gram model.")
    parser.add_argument("files", type=Path, nargs="+", help="text files, one sentence per line")
    parser.add_argument("--chosen-on", nargs="*", default=(), help="names of the files that options were chosen on")
    parser.add_argument("--num-samples", type=int, default=200, help="importance samples of the bound")
    parser.add_argument("--num-sentences", type=int, default=1000, help="sentences to generate")
    parser.add_argument("--runs", type=Path, default=Path("runs/app-sentences"), help="folder of the runs")
    parser.add_argument("--options", nargs="*", default=[], help="options of train, for a short trial")
    parser.add_argument("--out", type=Path, help="file of the results; by default in benchmarks/results")
    options = parser.parse_args()
    for file in options.files:
        began, directory = time.perf_counter(), options.runs / file.stem
        is_new = not directory.exists()
        run = train_run(file, directory, [f"--{option}" for option in options.options])
        minutes = (time.perf_counter() - began) / 60
        common: dict[str, Any] = {
            "seed": run.config.seed,
            "seconds": 60 * minutes,
            "unseen": file.name not in options.chosen_on,
        }
        rival = KneserNey(_ids(run, "train") + _ids(run, "validation"), len(tokenizer_of(run.data)))
        rows = []
        if is_new:
            rows.append(figure("text, own sentences", f"{file.stem}: minutes of training", minutes, **common))
        rows += likelihood_figures(run, rival, options.num_samples, common)
        rows += sample_figures(run, rival, options.num_sentences, common)
        write_figures("sentences", rows, options.out, merge=True)  # the figures of other files are kept


if __name__ == "__main__":
    main()
