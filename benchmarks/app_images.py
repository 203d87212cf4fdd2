"""Images: how often a classifier recognises the requested class in samples of MNIST, and the figures of docs/images.md.

    python benchmarks/app_images.py [--steps 9400] [--per-class 200] [--pictures docs]

The script trains the recipe mnist-class and a classifier on real training images, whose accuracy on real test images is
also reported. A sample is the mean of p(x|z, class) for z from the prior, as `fastvae sample RUN --label L` shows it;
sampled pixels are evaluated as well.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from applications import figure, write_figures
from digit_classifier import accuracy, classify, train_classifier

import fastvae
from fastvae.ops import noise_key
from fastvae.recipes import find_recipe
from fastvae.run import LoadedRun, start


def train_run(directory: Path, steps: int, seed: int) -> LoadedRun:
    """Train the recipe mnist-class for ``steps`` steps; a finished run is not trained again."""
    recipe = find_recipe("mnist-class")
    settings = replace(recipe.train, steps=steps, eval_every=None, final_samples=1)
    start(replace(recipe, run_dir=directory, seed=seed, train=settings))
    return fastvae.load(directory)


def recognised(run: LoadedRun, classifier: torch.nn.Module, per_class: int, seed: int) -> tuple[float, float, float]:
    """Fractions of samples recognised as the requested class: all means, means of the worst class, sampled pixels."""
    shares, drawn = [], []
    for digit in range(10):
        images = run.sample(per_class, seed=seed + digit, label=digit)
        shares.append(float((classify(classifier, images) == digit).double().mean()))
        assert run.data.conditions is not None
        condition = run.data.conditions.vectors(per_class, label=digit)
        key = noise_key(seed + digit)
        pixels = run.model.sample(per_class, key, condition=condition, draw_pixels=True)  # type: ignore[operator]
        drawn.append(float((classify(classifier, pixels) == digit).double().mean()))
    return sum(shares) / 10, min(shares), sum(drawn) / 10


def write_pictures(run: LoadedRun, folder: Path) -> None:
    """Draw samples of each class."""
    folder.mkdir(parents=True, exist_ok=True)
    run.save(
        folder / "images-class.png", run.sample(100, seed=1), title="samples of the classes 0 to 9, column by column"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the recognition of class-conditional samples of MNIST.")
    parser.add_argument("--steps", type=int, default=9400, help="training steps of 128 images; an epoch has 469")
    parser.add_argument("--epochs", type=int, default=3, help="training epochs of the classifier")
    parser.add_argument("--per-class", type=int, default=200, help="number of samples per class")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run-dir", type=Path, default=Path("runs/app-images"))
    parser.add_argument("--pictures", type=Path, help="folder of the pictures; by default they are not drawn")
    parser.add_argument("--out", type=Path, help="file of the results; by default in benchmarks/results")
    options = parser.parse_args()
    began = time.perf_counter()
    run = train_run(options.run_dir, options.steps, options.seed)
    classifier = train_classifier(run.data.train, epochs=options.epochs, seed=options.seed)
    real = accuracy(classifier, run.data.test)
    mean, worst, drawn = recognised(run, classifier, options.per_class, options.seed)
    if options.pictures is not None:
        write_pictures(run, options.pictures)
    common = {"seed": options.seed, "seconds": time.perf_counter() - began}
    trained = f"recipe mnist-class, {options.steps} steps; {options.per_class} samples per class"
    rows = [
        figure("images", "classifier's accuracy on real test digits", real, at_least=0.98, **common),
        figure("images", "requested class recognised (means)", mean, at_least=0.90, note=trained, **common),
        figure("images", "requested class recognised, worst class (means)", worst, **common),
        figure("images", "requested class recognised (drawn pixels)", drawn, **common),
    ]
    write_figures("images", rows, options.out)


if __name__ == "__main__":
    main()
