"""The families of models by name, and checks of a configuration against them. This module does not import PyTorch.

A new family is a folder, a field of `ModelConfig` if it has its own settings, and a line here.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import is_dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from fastvae.models.autoencoder.family import FAMILY as AUTOENCODER
from fastvae.models.config import ModelConfig
from fastvae.models.family import Family, Network
from fastvae.models.hierarchical.family import FAMILY as HIERARCHICAL
from fastvae.models.recommender.family import FAMILY as RECOMMENDER
from fastvae.models.text.family import FAMILY as TEXT
from fastvae.models.vae.family import FAMILY as VAE
from fastvae.own_settings import add_settings, extended
from fastvae.settings import Settings

if TYPE_CHECKING:
    from fastvae.likelihoods import Likelihood

FAMILIES: dict[str, Family] = {family.name: family for family in (VAE, AUTOENCODER, HIERARCHICAL, TEXT, RECOMMENDER)}
"""The families by name, as in ``--model.family``."""
LIKELIHOOD_OPTIONS: dict[str, tuple[str, ...]] = {
    "gaussian": ("likelihood_logvar", "likelihood_logvar_start", "likelihood_logvar_floor"),
    "table": ("likelihood_logvar_start", "likelihood_logvar_floor"),
}
"""Fields of `ModelConfig` that a likelihood reads; a likelihood that is not listed reads none."""


def register_family(family: Family, config: type[Settings] | None = None) -> None:
    """Register a family of models.

    Args:
        family: the declaration.
        config: settings of its own, which ``build`` reads by `fastvae.own_settings.own_settings` and the command line
            has as ``--model.NAME.FIELD``; None for none.

    Raises:
        ValueError: the name already exists, or the family declares no network.
    """
    _require_new("family", family.name, FAMILIES)
    if not family.networks:
        raise ValueError(f"register_family: {family.name} must declare at least one network, got none")
    if config is not None:
        option = add_settings(ModelConfig, family.name, config)
        networks = {name: replace(each, options=(*each.options, option)) for name, each in family.networks.items()}
        family = replace(family, networks=networks)
    FAMILIES[family.name] = family


def register_likelihood(
    name: str,
    likelihood: type[Likelihood],
    *,
    families: Sequence[str] = ("vae", "hierarchical"),
    options: Sequence[str] = (),
    config: type[Settings] | None = None,
) -> None:
    """Register a likelihood.

    Args:
        name: the value of ``--model.likelihood``.
        likelihood: the class; its ``build`` creates it from a model's settings.
        families: names of the families that support it.
        options: the fields of `ModelConfig` that its ``build`` reads.
        config: settings of its own, which ``build`` reads by `fastvae.own_settings.own_settings` and the command line
            has as ``--model.NAME.FIELD``; None for none.

    Raises:
        ValueError: the name already exists, or a family is unknown.
    """
    from fastvae.likelihoods import LIKELIHOODS  # imported here: it imports PyTorch

    _require_new("likelihood", name, LIKELIHOODS)
    suited = [find_family(each) for each in families]
    own = () if config is None else (add_settings(ModelConfig, name, config),)
    LIKELIHOODS[name] = likelihood
    LIKELIHOOD_OPTIONS[name] = (*options, *own)
    for family in suited:
        FAMILIES[family.name] = replace(family, likelihoods=(*family.likelihoods, name))


def find_family(name: str) -> Family:
    """Return the family of that name.

    Raises:
        ValueError: the name is unknown; the message has the nearest one.
    """
    if name not in FAMILIES:
        raise ValueError(f"model.family: no family is named {name!r}; {_hint(name, FAMILIES)}")
    return FAMILIES[name]


def find_network(config: ModelConfig) -> Network:
    """Return the declaration of the network of ``config``.

    Raises:
        ValueError: the family has no network of that name.
    """
    family = find_family(config.family)
    if config.network in family.networks:
        return family.networks[config.network]
    others = [each.name for each in FAMILIES.values() if config.network in each.networks]
    if others:
        raise ValueError(
            f"model.network: {config.network} is a network of family {' or '.join(others)}, and the family is"
            f" {family.name}; choose {_choice(family.networks)}, or set model.family"
        )
    every = {name for each in FAMILIES.values() for name in each.networks}
    near = difflib.get_close_matches(config.network, family.networks, n=1) or difflib.get_close_matches(
        config.network, every, n=1
    )
    hint = f"did you mean {near[0]}?" if near else f"family {family.name} has {_choice(family.networks)}"
    raise ValueError(f"model.network: no network is named {config.network!r}; {hint}")


def allow_task(task: str, families: Iterable[str]) -> None:
    """Declare that families can be trained by a task.

    Raises:
        ValueError: there is no such family.
    """
    for family in [find_family(name) for name in families]:
        FAMILIES[family.name] = replace(family, tasks=(*family.tasks, task))


def check_model(config: ModelConfig, kind: str | None = None, task: str | None = None) -> None:
    """Check a model's configuration against the declaration of its family.

    Args:
        config: family, network, likelihood and conditioning.
        kind: the kind of the data; None if unknown.
        task: name of the task that trains it; None if unknown.

    Raises:
        ValueError: they do not fit; the message has the rule, the value and a remedy.
    """
    network, family = find_network(config), find_family(config.family)
    _check_likelihood(config, family)
    if task is not None and task not in family.tasks:
        raise ValueError(
            f"train.task: family {family.name} is trained by {_choice(family.tasks)}, got {task}; choose another task,"
            " or another model.family"
        )
    where = f"network {config.network} of family {family.name}"
    if config.conditioning == "film" and not network.film:
        raise ValueError(f"model.conditioning=film: {where} has no FiLM; use model.conditioning=concat")
    if config.conditioning == "film" and not config.hidden_dim:
        raise ValueError(
            "model.conditioning=film: requires at least one hidden layer, got model.hidden_dim=();"
            " add one, or use model.conditioning=concat"
        )
    kinds = family.kinds if network.kinds is None else network.kinds
    if kind is not None and kind not in kinds:
        suited = [each.name for each in FAMILIES.values() if kind in each.kinds]
        remedy = "choose another network" if family.name in suited else f"set model.family to {_choice(suited)}"
        raise ValueError(f"model.network: {where} reads {_choice(kinds)} data, got {kind}; {remedy}")


def _check_likelihood(config: ModelConfig, family: Family) -> None:
    if not family.likelihoods or config.likelihood in family.likelihoods:
        return
    if all(config.likelihood not in each.likelihoods for each in FAMILIES.values()):
        hint = _hint(config.likelihood, family.likelihoods)
        raise ValueError(f"model.likelihood: no likelihood is named {config.likelihood!r}; {hint}")
    raise ValueError(
        f"model.likelihood: family {family.name} requires {_choice(family.likelihoods)}, got {config.likelihood};"
        " set model.likelihood, or another model.family"
    )


def used_options(config: ModelConfig) -> set[str]:
    """Return the fields of `ModelConfig` that the model of ``config`` reads."""
    family = find_family(config.family)
    used = {"family", "network", "latent_dim", *find_network(config).options}
    return used | {"likelihood", *LIKELIHOOD_OPTIONS.get(config.likelihood, ())} if family.likelihoods else used


def users_of(option: str) -> list[str]:
    """The networks, families and likelihoods that read a field of `ModelConfig`, for messages."""
    found = []
    for family in FAMILIES.values():
        names = [name for name, network in family.networks.items() if option in network.options]
        if names:
            found.append(f"family {family.name}" + ("" if len(names) == len(family.networks) else f" {_choice(names)}"))
    return found + [f"likelihood {name}" for name, options in LIKELIHOOD_OPTIONS.items() if option in options]


def model_preset(family: str, name: str | None = None, *, network: str | None = None, **changes: Any) -> ModelConfig:
    """Return the configuration of a preset of a family, with its default network and likelihood unless others are
    given.

    Args:
        family: a name of `FAMILIES`.
        name: a preset of the network, such as small; None is base if the network has presets.
        network: one of the family's networks; None is the first one.
        changes: other values of `ModelConfig`'s fields.

    Raises:
        ValueError: a name is unknown.
    """
    found = find_family(family)
    config = extended(ModelConfig)(family=family, network=next(iter(found.networks)) if network is None else network)
    if found.likelihoods:
        config = replace(config, likelihood=found.likelihoods[0])
    if name is not None or find_network(config).presets:
        config = with_preset(config, "base" if name is None else name)
    return replace(config, **changes)


def with_preset(config: ModelConfig, name: str) -> ModelConfig:
    """Return the configuration with the values of a preset of its network.

    Raises:
        ValueError: the network has no preset of that name.
    """
    presets = find_network(config).presets
    if name not in presets:
        has = f"has {_choice(presets)}" if presets else "has none"
        raise ValueError(f"model.preset: network {config.network} of family {config.family} {has}, got {name!r}")
    return _updated(config, presets[name])


def _updated(config: ModelConfig, values: Mapping[str, Any]) -> ModelConfig:
    """Return the configuration with these values; a mapping changes fields of a nested configuration."""
    fields = vars(config)
    changed = {
        key: replace(cast(Any, fields[key]), **value) if is_dataclass(fields.get(key)) else value
        for key, value in values.items()
    }
    return replace(config, **changed)


def _require_new(what: str, name: str, taken: Iterable[str]) -> None:
    if name in taken:
        raise ValueError(f"register_{what}: the name {name!r} is taken; choose another one")


def _hint(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"choose {_choice(known)}, or load the plugin that registers it"


def _choice(names: Collection[str]) -> str:
    *others, last = names or ("none",)
    return f"{', '.join(others)} or {last}" if others else last
