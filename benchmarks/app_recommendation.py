"""Recommendation: Mult-VAE and Mult-DAE on MovieLens-100K, compared with popularity and EASE, over 5 splits.

    python benchmarks/app_recommendation.py [--folds 0 1 2 3 4] [--path ratings.csv | --planted 2] [--steps 100]

The evaluation follows the published protocol: in each split a fifth of the users is excluded from training; four fifths
of a test user's films are the model's input and masked in the ranking, and the rest must be ranked first. Ratings of 4
and 5 count; users with fewer than 5 of them are excluded. EASE's hyperparameter is chosen on a tenth of the training
users, then EASE is fitted to all of them; our models use the recipe's settings in every split. The data are searched
for in $FASTVAE_DATA/ml-100k and the cache, and otherwise downloaded by pip.

With --path (a file of interactions of thousands of users) or --planted SEED (a synthetic one of the size of
MovieLens-1M, see planted_interactions.py) the model is that of `fastvae train recommender --data.path FILE`, and the
results are added to those of MovieLens-100K. The recipe's options were chosen on validation users of the planted set
of seed 1. With --steps there are no requirements.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from applications import Figure, figure, write_figures
from planted_interactions import write_interactions

import fastvae
from fastvae.applications.recommendation import Recommender, compare, comparison_table
from fastvae.evaluate.ranking import Ranking, ndcg_ratio
from fastvae.recipes import find_recipe, for_own_data
from fastvae.run import RunConfig, start

CHOSEN_ON = (1, 2)  # seeds of planted sets that were looked at before the recipe's options were fixed
BAR = 1.0  # required NDCG@100 of Mult-VAE relative to EASE's


def run_of(recipe: RunConfig, fold: int, options: argparse.Namespace, directory: Path) -> fastvae.LoadedRun:
    """Train a recipe on one split."""
    recipe = recipe if options.path is None else for_own_data(recipe)  # as with --data.path
    interactions = replace(recipe.data.interactions, fold=fold)
    config = replace(
        recipe,
        run_dir=directory / f"{recipe.recipe}-{fold}",
        data=replace(recipe.data, interactions=interactions, path=options.path),
        train=replace(recipe.train, steps=options.steps, checkpoint_every=None, log_every=200),
    )
    start(config)
    return fastvae.load(config.directory)


def rankings_of(fold: int, options: argparse.Namespace, directory: Path) -> dict[str, Ranking]:
    """Evaluate popularity, EASE and Mult-VAE on one split, and Mult-DAE on MovieLens-100K."""
    if options.path is not None:
        own = run_of(find_recipe("recommender"), fold, options, directory)
        found = compare(Recommender.of_run(own), own.data, name="Mult-VAE")
        return {name.partition(" (")[0]: ranking for name, ranking in found.items()}
    vae = run_of(find_recipe("movielens-100k"), fold, options, directory)
    dae = run_of(find_recipe("movielens-100k-dae"), fold, options, directory)
    found = compare(Recommender.of_run(vae), vae.data, name="Mult-VAE", rivals={"Mult-DAE": Recommender.of_run(dae)})
    return {name.partition(" (")[0]: ranking for name, ranking in found.items()}


def figures_of(splits: list[dict[str, Ranking]], options: argparse.Namespace, began: float) -> list[Figure]:
    """Means over the splits with standard errors over all users, and the ratios that have requirements."""
    data = "MovieLens-100K" if options.path is None else options.path.stem
    bar = BAR if options.steps is None and (options.path is None or options.planted is not None) else None
    unseen = options.planted is not None and options.planted not in CHOSEN_ON
    common: dict[str, Any] = {"seed": 0, "seconds": time.perf_counter() - began, "unseen": unseen}
    rows = []
    for name in splits[0]:
        for measure in ("recall_20", "recall_50", "ndcg_100"):
            parts = [getattr(split[name], measure) for split in splits]
            mean = statistics.fmean(part.mean for part in parts)
            error = math.sqrt(sum(part.standard_error**2 for part in parts)) / len(parts)
            note = f"standard error {error:.4f}, {len(splits)} splits"
            rows.append(figure("recommendation", f"{data}, {name}: {measure}", mean, note=note, **common))
    for name in [name for name in splits[0] if name not in ("popularity", "EASE")]:
        ratio = ndcg_ratio([split[name] for split in splits], [split["EASE"] for split in splits])
        label = f"{data}, {name}: NDCG@100 over EASE's"
        required = bar if name == "Mult-VAE" else None
        note = f"standard error {ratio.standard_error:.4f}, paired by users"
        rows.append(figure("recommendation", label, ratio.mean, at_least=required, note=note, **common))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare NDCG@100 on MovieLens-100K with EASE's.")
    parser.add_argument("--folds", type=int, nargs="+", default=range(5), help="splits to measure")
    parser.add_argument("--path", type=Path, help="a file of users, items and ratings, instead of MovieLens-100K")
    parser.add_argument("--planted", type=int, metavar="SEED", help="the synthetic interactions of this seed")
    parser.add_argument("--steps", type=int, help="training steps; by default the recipe's")
    parser.add_argument("--out", type=Path, help="file of the results; by default in benchmarks/results")
    options = parser.parse_args()
    began, splits = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as directory:
        if options.planted is not None:
            options.path = Path(directory) / f"planted-{options.planted}.csv"
            write_interactions(options.path, options.planted)
        for fold in options.folds:
            splits.append(rankings_of(fold, options, Path(directory)))
            print(comparison_table(splits[-1]), flush=True)
    # The figures of other data are kept.
    write_figures("recommendation", figures_of(splits, options, began), options.out, merge=True)


if __name__ == "__main__":
    main()
