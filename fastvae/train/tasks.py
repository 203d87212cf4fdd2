"""The tasks by name. Nothing here imports PyTorch."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fastvae.models.registry import allow_task
from fastvae.own_settings import add_settings
from fastvae.settings import Settings
from fastvae.train.config import TrainConfig

if TYPE_CHECKING:
    from torch import nn

    from fastvae.data import Data
    from fastvae.train.task import Task


class BuildTask(Protocol):
    """Builds a task and the models that it trains besides the run's."""

    def __call__(self, config: TrainConfig, model: nn.Module, data: Data, /) -> Task: ...


@dataclass(frozen=True)
class NamedTask:
    """An entry of `TASKS`."""

    build: BuildTask
    """Builds the task; see `build_task`."""
    option: str | None = None
    """The field of `TrainConfig` that only this task reads; None for none."""


def _build_elbo(config: TrainConfig, model: nn.Module, data: Data) -> Task:
    from fastvae.train.task import ELBOTask  # imported here: it imports PyTorch

    return ELBOTask(model)


TASKS: dict[str, NamedTask] = {"elbo": NamedTask(_build_elbo)}
"""The tasks that ``--train.task`` names."""


def register_task(
    name: str, build: BuildTask, *, families: Sequence[str] = ("vae",), config: type[Settings] | None = None
) -> None:
    """Add a task under a name.

    Args:
        name: the value of ``--train.task``.
        build: builds the task for the settings of a run, its model and its data, alike on every rank. The models of the
            task get their initial weights from torch's generator, which is seeded with the run's seed.
        families: the families of models that it can train.
        config: settings of its own, which ``build`` reads by `fastvae.own_settings.own_settings` and the command line
            has as ``--train.NAME.FIELD``; None for none.

    Raises:
        ValueError: the name is taken, or there is no such family.
    """
    if name in TASKS:
        raise ValueError(f"register_task: the name {name!r} is taken; choose another one")
    option = None if config is None else add_settings(TrainConfig, name, config)
    allow_task(name, families)
    TASKS[name] = NamedTask(build, option)


def find_task(name: str) -> NamedTask:
    """The task of that name.

    Raises:
        ValueError: there is none; the message has the nearest name.
    """
    if name not in TASKS:
        near = difflib.get_close_matches(name, TASKS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose {' or '.join(TASKS)}, or load its plugin"
        raise ValueError(f"train.task: no task is named {name!r}; {hint}")
    return TASKS[name]


def build_task(config: TrainConfig, model: nn.Module, data: Data, seed: int) -> Task:
    """The task that ``config.task`` names; the global generator's state is unchanged.

    Raises:
        ValueError: no task has that name.
    """
    import torch  # imported here: the command line reads the names without it

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return find_task(config.task).build(config, model, data)
