"""Recipes: functions that return the full configuration of a run. One derives from another."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from fastvae.recipes.digits import autoencoder_digits, digits, digits_linear
from fastvae.recipes.images import fashion_mnist, mnist, mnist_iwae
from fastvae.run import RunConfig

RECIPES: dict[str, Callable[[], RunConfig]] = {
    "digits": digits,
    "digits-linear": digits_linear,
    "autoencoder-digits": autoencoder_digits,
    "mnist": mnist,
    "mnist-iwae": mnist_iwae,
    "fashion-mnist": fashion_mnist,
}


def find_recipe(name: str) -> RunConfig:
    """The recipe of that name.

    Raises:
        ValueError: there is none; the message has the nearest name.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(RECIPES)}"
        raise ValueError(f"no recipe is named {name!r}; {hint}")
    return RECIPES[name]()
