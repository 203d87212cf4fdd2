"""`fastvae train RECIPE --help`: the common options that the run can use; `--help-all`: all options."""

from __future__ import annotations

import ast
import contextlib
import inspect
import textwrap
import typing
from collections.abc import Callable, Iterable
from dataclasses import Field, dataclass, field, fields, is_dataclass, make_dataclass
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Literal

import tyro

from fastvae.commands.usable import is_below, other_strategies, unused_options
from fastvae.data.kinds import ANY, KINDS, dataset_names
from fastvae.models import FAMILIES
from fastvae.models.registry import find_family, find_network
from fastvae.own_settings import is_made
from fastvae.run import RunConfig
from fastvae.settings import Settings, is_advanced

_PRESET = "model.preset"
_PRESET_HELP = "A named size of the network: it sets the sizes that are not given on the command line."


@dataclass(frozen=True)
class _Shown:
    """A class with the fields that the help shows, and the numbers of options that it shows and omits."""

    kind: type
    num_shown: int
    num_hidden: int


def print_help(config: RunConfig, command: str, *, everything: bool = False) -> None:
    """Print the options of a run with its values as defaults.

    Args:
        config: the run of the command line without --help.
        command: such as train digits.
        everything: whether to show options that the run does not read and advanced options as well.
    """
    hidden = [each.name for each in unused_options(config)] + other_strategies(config)
    shown = _shown(config, "", (lambda name, field: False) if everything else _Hidden(hidden), _choices(config))
    with contextlib.suppress(SystemExit):  # tyro exits after every help
        tyro.cli(shown.kind, args=["--help"], prog=f"fastvae {command}")
    if shown.num_hidden:
        print(
            f"{shown.num_hidden} more options are advanced or for other kinds of data, families and strategies:\n"
            f"`fastvae {command} --help-all` shows them."
        )


@dataclass(frozen=True)
class _Hidden:
    """Whether the help omits a field, given its dotted name."""

    names: list[str]

    def __call__(self, name: str, field: Field[Any]) -> bool:
        return is_advanced(field) or any(is_below(name, each) for each in self.names)


def _shown(
    config: Settings, prefix: str, is_hidden: Callable[[str, Field[Any]], bool], choices: dict[str, Any]
) -> _Shown:
    """Return a configuration's class with the fields that are shown and its values as defaults."""
    kind = type(config)
    hints, described = typing.get_type_hints(kind, include_extras=True), descriptions(kind)
    shown: list[Any] = []
    num_shown = num_hidden = 0
    for each in fields(config):  # type: ignore[arg-type]  # every Settings is a dataclass
        name, value = prefix + each.name, vars(config)[each.name]
        if tyro.conf.Suppress in typing.get_args(hints[each.name]):
            continue
        if isinstance(value, Settings):
            within = _shown(value, name + ".", (lambda *_: True) if is_hidden(name, each) else is_hidden, choices)
            num_shown, num_hidden = num_shown + within.num_shown, num_hidden + within.num_hidden
            if within.num_shown:
                shown.append((each.name, within.kind, field(default_factory=within.kind)))
        elif is_hidden(name, each):
            num_hidden += 1
        else:
            hint = _described(choices.get(name, hints[each.name]), described[each.name])
            shown.append((each.name, hint, field(default=value)))
            num_shown += 1
        if name == "model.network":  # followed by the preset, which is not a field of a configuration
            shown.append(("preset", _described(choices[_PRESET], _PRESET_HELP), field(default=None)))
            num_shown += 1
    made = make_dataclass(kind.__name__, shown, kw_only=True)
    made.__doc__ = kind.__doc__
    return _Shown(made, num_shown, num_hidden)


def _choices(config: RunConfig) -> dict[str, Any]:
    """Return the types of options whose values are names in a registry."""
    family, network = find_family(config.model.family), find_network(config.model)
    return {
        "model.family": _one_of(FAMILIES),
        "model.network": _one_of(family.networks),
        _PRESET: _one_of(network.presets) | None if network.presets else str | None,
        "data.name": _one_of(dict.fromkeys((*dataset_names(), *KINDS, ANY, config.data.name))),
        "train.task": _one_of(family.tasks),
        "model.likelihood": _one_of(family.likelihoods or (config.model.likelihood,)),
    }


def _described(hint: Any, description: str) -> Any:
    """Return the type of an option with its help text."""
    return Annotated[hint, tyro.conf.arg(help=description)]


def _one_of(names: Iterable[str]) -> Any:
    """Return the type of a value that is one of these names."""
    return Literal[tuple(names)]


@cache
def descriptions(kind: type) -> dict[str, str]:
    """Return the string under each field of a dataclass, including base classes, on one line."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not is_dataclass(base) or is_made(base):
            continue
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(body, ast.ClassDef)
        for statement, after in pairwise(body.body):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                text = after.value if isinstance(after, ast.Expr) else None
                said = text.value if isinstance(text, ast.Constant) and isinstance(text.value, str) else ""
                found[statement.target.id] = " ".join(said.split())
    return found
