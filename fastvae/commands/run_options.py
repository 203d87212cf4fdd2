"""The options of a whole run, which `train`, `verify-resume`, `submit` and `outcome` share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fastvae.commands.helping import print_help
from fastvae.commands.parsing import UsageError, parse
from fastvae.commands.usable import refuse_unused
from fastvae.data import kind_of
from fastvae.models import ModelConfig, check_model, model_preset, with_preset
from fastvae.own_settings import extend
from fastvae.plugins import why_other_plugins
from fastvae.recipes import find_recipe, for_own_data
from fastvae.run import RunConfig
from fastvae.train import tasks
from fastvae.train.run_dir.record import read_record

ALIASES = {
    "--lr": "--train.lr",
    "--batch-size": "--train.global-batch-size",
    "--epochs": "--train.epochs",
    "--beta": "--train.objective.kl-weight",
}
"""Short names of options, as people type them."""

PRESET = "--model.preset"


def parse_run(command: str, recipe: str, words: Sequence[str], other_kinds: Sequence[type] = ()) -> RunConfig:
    """A recipe's run with the options in ``words``; ``other_kinds`` are the kinds whose options were removed before.

    A recipe binarises its own data as a paper did, and its epochs suit them. A path brings other data: they are
    binarised only where the words ask for that, and the run keeps its best weights and stops early, by a validation
    set, unless the words say otherwise. Another family brings its own defaults, and a preset its sizes; the other words
    change those.

    Raises:
        SystemExit: the words ask for help, which is printed.
        UsageError: an option is unknown or has no effect on the run, or a value breaks a rule.
        ValueError: there is no such recipe.
    """
    default, words = extend(find_recipe(recipe)), [long_name(word) for word in words]
    asks = {"-h", "--help", "--help-all"} & set(words)
    words = [word for word in words if word not in asks]
    given = {word.partition("=")[0].replace("_", "-"): None for word in words if word.startswith("--")}
    if "--train.epochs" in given:
        if "--train.steps" in given:
            raise UsageError("--train.steps and --train.epochs are both the length of the run; give one")
        default = replace(default, train=replace(default.train, steps=None))
    if "--data.path" in given:
        default = for_own_data(default)
    try:
        default = replace(default, model=extend(_chosen_model(default.model, words)))
        options, others = _without(words, PRESET), [PRESET]
        config = parse(
            type(default), options, f"{command} {recipe}", default=default, other_kinds=other_kinds, others=others
        )
        if not asks:
            refuse_unused(config, [name[2:] for name in given if name != PRESET])
            tasks.find_task(config.train.task)
            check_model(config.model, kind_of(config.data), config.train.task)
    except ValueError as error:
        _require_plugins(default, words)
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{error}; see fastvae {command} {recipe} --help") from error
    if asks:
        print_help(config, f"{command} {recipe}", everything="--help-all" in asks)
        raise SystemExit(0)
    return config


def _require_plugins(default: RunConfig, words: Sequence[str]) -> None:
    """Check that the plugins of the run that the words continue are loaded: without them its options are unknown.

    Raises:
        UsageError: names the missing plugin.
    """
    run_dir = _value(words, "--run-dir")
    directory = default.directory if run_dir is None else Path(run_dir)
    need, _ = why_other_plugins(directory, read_record(directory))
    if need is not None:
        raise UsageError(need)


def _chosen_model(model: ModelConfig, words: Sequence[str]) -> ModelConfig:
    """The recipe's model; the defaults of the family that the words name, and the sizes of their preset."""
    family, network, preset = (_value(words, option) for option in ("--model.family", "--model.network", PRESET))
    if family is not None and family != model.family:
        return model_preset(family, preset, network=network)
    if preset is None:
        return model
    return with_preset(model if network is None else replace(model, network=network), preset)


def _value(words: Sequence[str], option: str) -> str | None:
    """The value that the words give an option, the last one; None where they do not name it."""
    value = None
    for place, word in enumerate(words):
        name, equals, text = word.partition("=")
        if name == option:
            value = text if equals else "".join(words[place + 1 : place + 2])
            if not value or value.startswith("--"):
                raise UsageError(f"Missing value for argument '{option}'")
    return value


def _without(words: Sequence[str], option: str) -> list[str]:
    """The words without an option and its value."""
    names = [word.partition("=")[0] for word in words]
    is_value = [False, *(word == option for word in words)]
    return [word for word, name, skip in zip(words, names, is_value, strict=False) if name != option and not skip]


def long_name(word: str) -> str:
    """The word, or for an alias such as ``--lr=0.1`` the same with the option's own name."""
    name, equals, value = word.partition("=")
    return ALIASES.get(name.replace("_", "-"), name) + equals + value
