"""Recipes: functions that return the full configuration of a run. One derives from another."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace

from fastvae.recipes.anomalies import anomaly_table
from fastvae.recipes.compression import lossless, mnist_grey
from fastvae.recipes.digits import autoencoder_digits, digits, digits_linear
from fastvae.recipes.images import (
    cifar10,
    fashion_mnist,
    fashion_mnist_conv,
    frey_faces,
    images,
    mnist,
    mnist_class,
    mnist_conv,
    mnist_iwae,
    mnist_iwae_2l,
)
from fastvae.recipes.recommendation import movielens_100k, movielens_100k_dae, recommender
from fastvae.recipes.speech import spoken_digits
from fastvae.recipes.text import sentences, sst2_collapsed, sst2_sentences
from fastvae.run import RunConfig

_PATIENCE = 10  # evaluations without a lower validation loss, each 2 % of the run, after which a run ends

RECIPES: dict[str, Callable[[], RunConfig]] = {
    "digits": digits,
    "digits-linear": digits_linear,
    "autoencoder-digits": autoencoder_digits,
    "mnist": mnist,
    "mnist-iwae": mnist_iwae,
    "mnist-iwae-2l": mnist_iwae_2l,
    "mnist-class": mnist_class,
    "mnist-conv": mnist_conv,
    "fashion-mnist": fashion_mnist,
    "fashion-mnist-conv": fashion_mnist_conv,
    "images": images,
    "cifar10": cifar10,
    "frey-faces": frey_faces,
    "recommender": recommender,
    "movielens-100k": movielens_100k,
    "movielens-100k-dae": movielens_100k_dae,
    "sentences": sentences,
    "sst2-sentences": sst2_sentences,
    "sst2-collapsed": sst2_collapsed,
    "anomaly-table": anomaly_table,
    "spoken-digits": spoken_digits,
    "mnist-grey": mnist_grey,
    "lossless": lossless,
}


def find_recipe(name: str) -> RunConfig:
    """Return the recipe of that name.

    Raises:
        ValueError: the name is unknown; the message has the nearest one.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(RECIPES)}"
        raise ValueError(f"no recipe is named {name!r}; {hint}")
    return RECIPES[name]()


def for_own_data(recipe: RunConfig) -> RunConfig:
    """Return a recipe's defaults for other data than its own, as with ``--data.path``.

    A recipe's number of epochs suits its own data, so a run on others keeps its best weights and stops early, by a
    validation set; and they are not binarised.
    """
    stopping = replace(recipe.train.early_stopping, patience=_PATIENCE)
    train = replace(recipe.train, keep_best=True, early_stopping=stopping, eval_every=None)
    return replace(recipe, data=replace(recipe.data, binarize="none"), train=train)
