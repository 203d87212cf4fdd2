"""Compression: compare the compressed size with the ELBO and with other coders, and check that files are recovered.

    python benchmarks/app_compression.py [--num 10000] [--pictures docs]

The script trains mnist-iwae (binary pixels) and mnist-grey (8-bit pixels), and runs `fastvae compress` and `decompress`
on test images: the fixed binarised MNIST if the data folder contains it (Larochelle and Murray 2011; otherwise the test
images are binarised at random once), and MNIST with 256 levels. Compression and decompression run in separate
processes, so that they share only the run directory and the file. By the default command for one's own data, `fastvae
train lossless --data.path FILE`, it then compresses every 10th image of sets on which nothing was chosen: the letters
of Omniglot's small background sets, 28 x 28 grey pixels, and the 4000 photographs of CIFAR-10 in $FASTVAE_DATA; a set
that is not there is omitted, with a message. ``--only`` measures one part and keeps the results of the other.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from applications import Figure, figure, write_figures
from compression_sets import Pixels, letters, mosaic, others, photographs
from matplotlib.figure import Figure as Plot
from PIL import Image

import fastvae
from fastvae.applications.compression import compress_file, decompress_file
from fastvae.data.pixels.preprocess import binarize_pixels, pixel_noise
from fastvae.ops import noise_key
from fastvae.recipes import find_recipe
from fastvae.records import Draw
from fastvae.run import LoadedRun, start

LOSSY_STEPS = (0.5, 1.0, 2.0, 4.0, 8.0)  # grid steps in posterior standard deviations
JPEG_QUALITIES = (1, 5, 10, 20, 40, 60, 80, 95)
PUBLISHED_BITS = 0.19  # bits per pixel of binarised MNIST: Townsend et al. 2019, arXiv 1901.04866, table 2
PUBLISHED_GREY_BITS = 1.41  # of MNIST with 256 levels: the same table


@dataclass(frozen=True)
class Outcome:
    """The results for one file."""

    report: dict[str, Any]  # the output of `fastvae compress --json`
    elbo_bits_per_pixel: float  # negative ELBO of the same examples, from the model's forward pass
    is_recovered: bool
    seconds: float


def train_run(directory: Path, recipe: str, steps: int | None, seed: int) -> LoadedRun:
    """Train a recipe, for a trial for ``steps`` steps only; a finished run is not trained again."""
    config = find_recipe(recipe)
    settings = replace(config.train, final_samples=1)
    if steps is not None:
        settings = replace(settings, steps=steps, eval_every=None)
    start(replace(config, run_dir=directory, seed=seed, train=settings))
    return fastvae.load(directory)


def train_on(file: Path, directory: Path, steps: int | None) -> LoadedRun:
    """Train by the command of the docs on one's own pixels."""
    words = ["train", "lossless", f"--data.path={file}", f"--run-dir={directory}"]
    command(*words, *([] if steps is None else [f"--train.steps={steps}"]))
    return fastvae.load(directory)


def command(*words: str | Path) -> str:
    """Run a fastvae command in a new process and return its output."""
    line = [sys.executable, "-m", "fastvae", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout


def lossless(run: LoadedRun, pixels: Pixels, folder: Path) -> Outcome:
    """Compress pixels [N, ...], decompress them, and compute the ELBO to compare with."""
    data, file, back = folder / "data.npy", folder / "data.fvc", folder / "back.npy"
    np.save(data, pixels)
    began = time.perf_counter()
    report = json.loads(command("compress", run.directory, "--data", data, "--out", file, "--json"))
    command("decompress", run.directory, file, "--out", back)
    seconds = time.perf_counter() - began
    return Outcome(report, elbo_bits(run, pixels), back.read_bytes() == data.read_bytes(), seconds)


@torch.no_grad()
def elbo_bits(run: LoadedRun, pixels: Pixels, num_draws: int = 4) -> float:
    """The negative ELBO of these pixels in bits per pixel, from the model's forward pass with new noise."""
    levels = 2 if pixels.max() <= 1 else 256
    total = 0.0
    for draw in range(num_draws):
        for first in range(0, len(pixels), 1000):
            x = torch.from_numpy(pixels[first : first + 1000]).float().view(-1, *run.data.event_shape) / (levels - 1)
            terms = run.model(x, noise_key(draw, 0, first), Draw(evaluation=True))
            total += float((terms.rate + terms.distortion).double().sum())
    return total / num_draws / pixels.size / math.log(2)


def binary_pixels(num: int, run: LoadedRun, seed: int) -> tuple[Pixels, str]:
    """Binarised test images [num, 784] and a description of their source."""
    fixed = Path(os.environ.get("FASTVAE_DATA", "")) / "binarized_mnist" / "binarized_mnist_test.amat.gz"
    if fixed.is_file():
        digits = np.frombuffer(gzip.decompress(fixed.read_bytes()), dtype=np.uint8)[::2] - ord("0")
        return digits.reshape(-1, 784)[:num], "fixed binarised MNIST"
    raw, indices = run.data.test[torch.arange(num)], torch.arange(num)
    drawn = binarize_pixels(raw, pixel_noise(noise_key(seed), raw, indices), 256)
    return drawn.flatten(1).numpy().astype(np.uint8), "MNIST's test images, binarised once by their grey values"


def grey_pixels(num: int, run: LoadedRun) -> Pixels:
    """Test images [num, 28, 28] with 256 levels."""
    return run.data.test[torch.arange(num)].squeeze(1).numpy()


def lossy(run: LoadedRun, pixels: Pixels, folder: Path) -> list[tuple[str, float, float]]:
    """(setting, bits per pixel, PSNR in decibels) for several grid steps of the latents, and for JPEG on the mosaic."""
    data, file, back = folder / "lossy.npy", folder / "lossy.fvc", folder / "lossy_back.npy"
    np.save(data, pixels)
    points = []
    for step in LOSSY_STEPS:
        report = compress_file(run, data, file, step=step)
        decompress_file(run, file, back)
        points.append((f"fastvae, grid {step:g}", report.bits_per_pixel, psnr(pixels, np.load(back))))
    picture = mosaic(pixels)
    for quality in JPEG_QUALITIES:
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "JPEG", quality=quality, optimize=True)
        decoded = np.asarray(Image.open(stream))
        points.append((f"JPEG, quality {quality}", 8 * len(stream.getvalue()) / pixels.size, psnr(picture, decoded)))
    return points


def psnr(pixels: Pixels, decoded: Pixels) -> float:
    """Peak signal-to-noise ratio of 8-bit pixels, in decibels."""
    return 10 * math.log10(255**2 / float(np.square(pixels.astype(np.float64) - decoded).mean()))


def write_plot(points: list[tuple[str, float, float]], path: Path) -> None:
    """Plot fidelity against rate."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plot = Plot(figsize=(5.5, 3.6), layout="constrained")
    axes = plot.subplots()
    for name in ("fastvae", "JPEG"):
        curve = sorted((bits, decibels) for setting, bits, decibels in points if setting.startswith(name))
        axes.plot(*zip(*curve, strict=True), marker="o", markersize=3, label=name)
    axes.set(xscale="log", xlabel="bits per pixel", ylabel="PSNR, dB", title="MNIST's test images, lossy")
    axes.grid(alpha=0.3)
    axes.legend()
    plot.savefig(path, dpi=110)


def rows_of(
    name: str,
    run: LoadedRun,
    outcome: Outcome,
    rivals: dict[str, float],
    common: dict[str, Any],
    note: str,
    **bar: float,
) -> list[Figure]:
    """The figures of one losslessly compressed file; ``bar`` is the requirement for its bits per pixel."""
    net, elbo = outcome.report["net_bits_per_pixel"], outcome.elbo_bits_per_pixel
    examples, apart = outcome.report["num_examples"], outcome.report["initial_bytes"]
    weights = (run.directory / "model.safetensors").stat().st_size
    initial = f"{note}; {examples} examples, {apart} initial bytes counted separately"
    return [
        figure(name, "files that come back byte for byte", float(outcome.is_recovered), at_least=1, **common),
        figure(name, "bits per pixel", net, note=initial, **bar, **common),
        figure(name, "negative ELBO, bits per pixel", elbo, **common),
        figure(name, "size over the negative ELBO, less 1", net / elbo - 1, at_most=0.01, **common),
        *(figure(name, f"{coder}, bits per pixel", bits, **common) for coder, bits in rivals.items()),
        figure(name, "size of the model, bytes", weights, note="not included in the bits per pixel", **common),
        figure(name, "images per second, compressed and decompressed", examples / outcome.seconds, **common),
    ]


def mnist_rows(options: argparse.Namespace, began: float) -> list[Figure]:
    """MNIST, binarised and with 256 levels, lossless and lossy."""
    common: dict[str, Any] = {"seed": options.seed}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = train_run(options.run_dir / "binary", "mnist-iwae", options.steps, options.seed)
        pixels, origin = binary_pixels(options.num, run, options.seed)
        outcome = lossless(run, pixels, folder)
        common["seconds"] = time.perf_counter() - began
        rivals = {"published BB-ANS (Townsend et al. 2019)": PUBLISHED_BITS, **others(pixels, binary=True)}
        rows = rows_of("compression, binary", run, outcome, rivals, common, origin)
        run = train_run(options.run_dir / "grey", "mnist-grey", options.steps, options.seed)
        grey = grey_pixels(options.num, run)
        outcome = lossless(run, grey, folder)
        common["seconds"] = time.perf_counter() - began
        rivals = {"published BB-ANS (Townsend et al. 2019)": PUBLISHED_GREY_BITS, **others(grey, binary=False)}
        bar = {"at_most": rivals["xz -9"]}
        rows += rows_of("compression, 8 bits", run, outcome, rivals, common, "MNIST, 256 levels", **bar)
        points = lossy(run, grey, folder)
    common["seconds"] = time.perf_counter() - began
    for setting, bits, decibels in points:
        note = f"{bits:.4f} bits per pixel"
        rows.append(figure("compression, lossy", f"PSNR, dB: {setting}", decibels, note=note, **common))
    if options.pictures is not None:
        write_plot(points, options.pictures / "compression-lossy.png")
    return rows


def unseen_rows(name: str, options: argparse.Namespace, began: float) -> list[Figure]:
    """A set on which nothing was chosen, by the default command for one's own data."""
    place, read = UNSEEN[name]
    source = Path(os.environ.get("FASTVAE_DATA", "")) / place
    if not source.is_dir():
        print(f"{name}: {place}/ is not in FASTVAE_DATA; omitted", flush=True)
        return []
    pixels = read(source)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{name}.npy"
        np.save(file, pixels)
        trained = time.perf_counter()
        run = train_on(file, options.run_dir / name, options.steps)
        trained = time.perf_counter() - trained
        test = run.data.test[torch.arange(len(run.data.test))].numpy().reshape(-1, *pixels.shape[1:])
        outcome = lossless(run, test, Path(folder))
    common = {"seed": run.config.seed, "seconds": time.perf_counter() - began, "unseen": True}
    rivals = others(test, binary=False)
    bar = {"at_most": min(rivals["WebP of all images, lossless"], rivals["PNG of all images"])}
    rows = rows_of(f"compression, {name}", run, outcome, rivals, common, place, **bar)
    evaluation = json.loads((run.directory / "evaluation.json").read_text(encoding="utf-8"))
    rate = evaluation["rate_nats"] / math.log(2) / (pixels.size // len(pixels))
    rows.append(figure(f"compression, {name}", "rate of the latents, bits per pixel", rate, **common))
    return [*rows, figure(f"compression, {name}", "seconds of training", trained, **common)]


UNSEEN = {"letters": ("omniglot_small", letters), "photographs": ("cifar10_lossless_4000", photographs)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure lossless and lossy compression of MNIST and of other sets.")
    parser.add_argument("--num", type=int, default=10000, help="number of test images of MNIST")
    parser.add_argument("--steps", type=int, help="training steps of the runs, for a trial; by default the recipes'")
    parser.add_argument("--only", choices=("mnist", *UNSEEN), help="measure one part only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run-dir", type=Path, default=Path("runs/app-compression"))
    parser.add_argument("--pictures", type=Path, help="folder of the plot; by default it is not drawn")
    parser.add_argument("--out", type=Path, help="file of the results; by default in benchmarks/results")
    options = parser.parse_args()
    began = time.perf_counter()
    rows: list[Figure] = []
    if options.only in (None, "mnist"):
        rows += mnist_rows(options, began)
    for name in UNSEEN:
        if options.only in (None, name):
            rows += unseen_rows(name, options, began)
    write_figures("compression", rows, options.out, merge=options.only is not None)


if __name__ == "__main__":
    main()
