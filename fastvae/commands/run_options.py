"""The options of a whole run, which `train`, `verify-resume`, `submit` and `outcome` share."""

from __future__ import annotations

from collections.abc import Sequence

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

    Raises:
        UsageError: an option is unknown, or a value breaks a rule.
        ValueError: there is no such recipe.
    """
    default = find_recipe(recipe)
    return parse(RunConfig, [long_name(word) for word in words], f"{command} {recipe}", default=default, beside=beside)


def long_name(word: str) -> str:
    """The word, or for an alias such as ``--lr=0.1`` the same with the option's own name."""
    name, equals, value = word.partition("=")
    return ALIASES.get(name.replace("_", "-"), name) + equals + value
