"""Representation learning: compare posterior means of MNIST with principal components as features.

    python benchmarks/app_features.py [--steps 3750] [--kl-weight 0.3] [--train-examples 60000]

The script trains the recipe mnist on grey pixels (the expected log likelihood of binarised ones) with 10 and with 50
latent dimensions. Then it evaluates 10-nearest-neighbour classifiers and logistic regressions on posterior means, on
the same number of principal components of the pixels, and on the pixels. All classifiers are trained on the same images
and evaluated on all test images. The KL weight is 0.3: with a weight of 1 the model does not encode the details that
distinguish digits, and many of 50 dimensions remain unused. The weight and the number of steps were chosen on the last
10 000 training images, with models that were not trained on them.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

from applications import Figure, figure, write_figures

import fastvae
from fastvae.applications.probe import ProbeConfig, probe, write_maps
from fastvae.recipes import find_recipe
from fastvae.run import LoadedRun, start

BARS_POINTS = {10: 1.0, 50: -1.0}  # required difference of kNN accuracies, posterior means minus PCA, in percent points


def train_run(directory: Path, latent_dim: int, steps: int, kl_weight: float, seed: int) -> LoadedRun:
    """Train the recipe mnist on grey pixels; a finished run is not trained again."""
    recipe = find_recipe("mnist")
    config = replace(
        recipe,
        run_dir=directory / f"z{latent_dim}",
        seed=seed,
        model=replace(recipe.model, latent_dim=latent_dim, hidden_dim=(500, 500)),
        data=replace(recipe.data, binarize="none"),
        train=replace(
            recipe.train,
            steps=steps,
            eval_every=None,
            final_samples=1,
            objective=replace(recipe.train.objective, kl_weight=kl_weight),
        ),
    )
    start(config)
    return fastvae.load(config.directory)


def figures_of(run: LoadedRun, config: ProbeConfig, seed: int, began: float) -> list[Figure]:
    """The accuracies of both classifiers on all features, and the difference that has a requirement."""
    rows = probe(run, config)
    latent_dim = run.config.model.latent_dim
    common = {"seed": seed, "seconds": time.perf_counter() - began}
    figures = []
    for row in rows:
        name = f"MNIST, {row.features}, {row.dimensions} dimensions: accuracy of"
        figures.append(figure("features", f"{name} 10 nearest neighbours", row.knn_accuracy, **common))
        figures.append(figure("features", f"{name} logistic regression", row.logistic_accuracy, **common))
    ours, pca = rows[0], rows[1]
    above = 100 * (ours.knn_accuracy - pca.knn_accuracy)
    name = f"MNIST, {latent_dim} dimensions: posterior means above PCA (kNN, percentage points)"
    return [*figures, figure("features", name, above, at_least=BARS_POINTS[latent_dim], **common)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare posterior means of MNIST with PCA and pixels as features.")
    parser.add_argument("--steps", type=int, default=3750, help="training steps of 128 images; an epoch has 469")
    parser.add_argument("--kl-weight", type=float, default=0.3, help="weight on the rate in training")
    parser.add_argument("--train-examples", type=int, default=60_000, help="training examples of the classifiers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run-dir", type=Path, default=Path("runs/app-features"))
    parser.add_argument("--pictures", type=Path, help="folder of the maps; by default they are not drawn")
    parser.add_argument("--out", type=Path, help="file of the results; by default in benchmarks/results")
    options = parser.parse_args()
    figures: list[Figure] = []
    for latent_dim in BARS_POINTS:
        began = time.perf_counter()
        run = train_run(options.run_dir, latent_dim, options.steps, options.kl_weight, options.seed)
        config = ProbeConfig(num_train=options.train_examples, raw=latent_dim == 10, seed=options.seed)
        figures += figures_of(run, config, options.seed, began)
    if options.pictures is not None:
        write_maps(run, options.pictures / "features-maps.png", seed=options.seed)
    write_figures("features", figures, options.out)


if __name__ == "__main__":
    main()
