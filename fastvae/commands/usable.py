"""Which options a run can use: those of its family, network, likelihood and kind of data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from fastvae.commands.parsing import UsageError
from fastvae.data import kind_of, kind_options
from fastvae.models import used_options, users_of
from fastvae.models.registry import find_network
from fastvae.run import RunConfig
from fastvae.train import TASKS

_STRATEGIES = ("ddp", "fsdp", "deepspeed")


@dataclass(frozen=True)
class Unused:
    """An option, or a group of options, that a run does not read."""

    name: str
    """Name of the option or group, such as model.conv or train.objective."""
    users: str
    """What reads the option."""
    instead: str
    """What the run uses instead."""


def unused_options(config: RunConfig) -> list[Unused]:
    """Return the options that the model, the objective and the data of a run do not read."""
    model, kind = config.model, kind_of(config.data)
    has = f"network {model.network} of family {model.family}"
    used = used_options(model)
    instead = has + (f" with likelihood {model.likelihood}" if "likelihood" in used else "")
    unused = [
        Unused(f"model.{field.name}", _words(users_of(field.name)) or "models with a likelihood", instead)
        for field in fields(model)
        if field.name not in used
    ]
    if not find_network(model).has_rate:
        unused.append(Unused("train.objective", "models with a rate", f"{has}, which has none"))
    task = config.train.task
    unused += [
        Unused(f"train.{each.option}", f"task {name}", f"task {task}")
        for name, each in TASKS.items()
        if each.option is not None and name != task
    ]
    if kind is not None:
        others = [(other, name) for other, names in kind_options().items() if other != kind for name in names]
        unused += [
            Unused(f"data.{name}", f"{other} data", f"{kind} data ({config.data.name})") for other, name in others
        ]
    return unused


def refuse_unused(config: RunConfig, given: Iterable[str]) -> None:
    """Check that the run reads the options that are given on the command line.

    Args:
        config: the run.
        given: the names of the options, such as model.conv.channels.

    Raises:
        UsageError: an option has no effect on this run.
    """
    unused = unused_options(config)
    for name in given:
        for each in unused:
            if is_below(name, each.name):
                raise UsageError(
                    f"--{name} is for {each.users}, and this run has {each.instead}; remove it, or change the latter"
                )


def is_below(name: str, prefix: str) -> bool:
    """Whether an option equals another one or is nested in it; hyphens and underscores are equivalent."""
    name, prefix = name.replace("_", "-"), prefix.replace("_", "-")
    return name == prefix or name.startswith(prefix + ".")


def other_strategies(config: RunConfig) -> list[str]:
    """Return the options of the strategies that a run does not use."""
    return [f"train.{name}" for name in _STRATEGIES if name != config.train.strategy]


def _words(names: Iterable[str]) -> str:
    return ", ".join(names)
