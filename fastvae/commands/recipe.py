"""The configuration that the words of a command make of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fastvae.commands.parsing import parse
from fastvae.recipes import find_recipe
from fastvae.run import RunConfig


def parse_recipe(recipe: str, words: Sequence[str], command: str, beside: Sequence[type] = ()) -> RunConfig:
    """The recipe, changed by the words.

    A recipe binarises its own data as a paper did. A path brings other data, which are binarised only where the words
    ask for that.

    Raises:
        UsageError: an option is unknown, or a value breaks a rule.
    """
    default = find_recipe(recipe)
    options = {word.partition("=")[0].replace("_", "-") for word in words}
    if "--data.path" in options and "--data.binarize" not in options:
        default = replace(default, data=replace(default.data, binarize="none"))
    return parse(RunConfig, words, command, default=default, beside=beside)
