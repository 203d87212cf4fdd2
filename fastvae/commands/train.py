"""`fastvae train RECIPE`, whose options depend on the recipe, and the list of recipes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from fastvae import applications, run
from fastvae.commands.numbers import evaluation_table
from fastvae.commands.run_options import ALIASES, parse_run
from fastvae.commands.user_file import train_file
from fastvae.recipes import RECIPES
from fastvae.settings import Settings


def train(words: Sequence[str]) -> int:
    """Train a recipe; the same command resumes from the newest checkpoint."""
    if not words or words[0] in ("-h", "--help"):
        print(f"usage: fastvae train RECIPE [options]\n\n{train.__doc__}\n\nrecipes:\n{recipe_table()}\n")
        print("`fastvae train RECIPE --help` shows the options that the recipe can use, with its values;")
        print("`fastvae train RECIPE --help-all` shows every option.")
        print("`--plugin MODULE ...` first imports your own kinds of data, families, likelihoods and tasks.")
        print(
            "`fastvae train FILE.py:FUNCTION` trains a model of your own: the function returns (model, data), or also a"
        )
        print("fastvae.TrainConfig; later commands on the run need --module FILE.py:FUNCTION.")
        print("Short names: " + ", ".join(f"{short} is {option}" for short, option in ALIASES.items()) + ".")
        return 0 if words else 2
    if run.UserFile.is_named_by(words[0]):
        finished = train_file(words[0], words[1:])
    else:
        config = parse_run("train", words[0], words[1:])
        finished = run.start(config)
        if finished.status == "done" and finished.is_main:
            applications.anomalies.keep_reference(finished.directory)
    if finished.evaluation is not None and finished.is_main:
        print(evaluation_table(dataclasses.asdict(finished.evaluation)))
        pictures = sorted(path.name for path in finished.directory.glob("*.png"))
        print(f"run directory  {finished.directory}   ({', '.join(pictures)})")
    return finished.exit_code


@dataclass(frozen=True)
class Recipes(Settings):
    """List the recipes of `fastvae train`."""

    def __call__(self) -> int:
        print(recipe_table())
        return 0


def recipe_table() -> str:
    """Return the recipes, one per line."""
    width = max(map(len, RECIPES))
    return "\n".join(f"  {n:{width}}  {(r.__doc__ or '').splitlines()[0]}" for n, r in RECIPES.items())
