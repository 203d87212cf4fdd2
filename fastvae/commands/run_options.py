"""The options of a whole run, which `train`, `verify-resume`, `submit` and `outcome` share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fastvae.commands.parsing import parse
from fastvae.recipes import find_recipe
from fastvae.run import RunConfig

ALIASES = {
    "--lr": "--train.lr",
    "--batch-size": "--train.global-batch-size",
    "--beta": "--train.objective.kl-weight",
}
"""Short names of options, as people type them."""


def parse_run(command: str, recipe: str, words: Sequence[str], beside: Sequence[type] = ()) -> RunConfig:
    """A recipe's run with the options in ``words``; ``beside`` has the kinds whose options were taken out before.

    A recipe binarises its own data as a paper did. A path brings other data, which are binarised only where the words
    ask for that.

    Raises:
        UsageError: an option is unknown, or a value breaks a rule.
        ValueError: there is no such recipe.
    """
    default, words = find_recipe(recipe), [long_name(word) for word in words]
    options = {word.partition("=")[0].replace("_", "-") for word in words}
    if "--data.path" in options and "--data.binarize" not in options:
        default = replace(default, data=replace(default.data, binarize="none"))
    return parse(RunConfig, words, f"{command} {recipe}", default=default, beside=beside)


def long_name(word: str) -> str:
    """The word, or for an alias such as ``--lr=0.1`` the same with the option's own name."""
    name, equals, value = word.partition("=")
    return ALIASES.get(name.replace("_", "-"), name) + equals + value
