"""Configurations with the settings of plugins.

A plugin that registers a family, a kind, a likelihood or a task can give it settings of its own: a dataclass, which
becomes a nested field of `ModelConfig`, `DataConfig` or `TrainConfig`. The class with these fields is made when it is
needed, and only in a process that has loaded such a plugin. Nothing here imports PyTorch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import field, fields, is_dataclass, make_dataclass
from functools import cache
from typing import Any, TypeVar, cast, get_type_hints

from fastvae.settings import Settings

S = TypeVar("S", bound=Settings)

ADDED: dict[type, dict[str, type[Settings]]] = {}
"""For each configuration the nested fields that plugins added to it, by name."""
_BASE: dict[type, type[Settings]] = {}  # by class that was made: the class that it extends


def add_settings(config: type[Settings], name: str, settings: type[Any]) -> str:
    """Add a nested field to a configuration.

    Args:
        config: the configuration, such as `ModelConfig`.
        name: the name of what is registered; the field has this name with underscores.
        settings: the class of the field, whose fields all have defaults.

    Returns:
        The name of the field.

    Raises:
        ValueError: the name is taken or cannot be a field, or the class is not suitable.
    """
    added = ADDED.setdefault(config, {})
    where, option = f"{config.__name__} with settings of {name!r}", name.replace("-", "_")
    if not option.isidentifier() or option in added or option in {each.name for each in fields(config)}:  # type: ignore[arg-type]
        raise ValueError(f"{where}: its field {option!r} must be a new identifier; choose another name")
    if Settings not in settings.__mro__ or not is_dataclass(settings):
        raise ValueError(
            f"{where}: must be a frozen dataclass that derives from fastvae.settings.Settings, got {settings.__name__}"
        )
    if missing := [each.name for each in fields(settings) if _has_no_default(each)]:
        raise ValueError(f"{where}: every field must have a default, {', '.join(missing)} has none")
    added[option] = cast("type[Settings]", settings)
    return option


def extended(config: type[S]) -> type[S]:
    """The class of a configuration with the fields that plugins added to it and to those nested in it.

    It is the class itself if there are none, and a subclass otherwise.
    """
    base = _BASE.get(config, config)
    if not any(ADDED.values()):
        return cast(type[S], base)
    hints = get_type_hints(base)
    nested = {each.name: hints[each.name] for each in fields(base)}  # type: ignore[arg-type]
    changed = {
        name: extended(kind)
        for name, kind in nested.items()
        if isinstance(kind, type) and issubclass(kind, Settings) and extended(kind) is not kind
    }
    made = _made(base, tuple(ADDED.get(base, {}).items()), tuple(changed.items()))
    return cast(type[S], made)


def extend(config: S) -> S:
    """The same configuration as an instance of `extended`; what plugins added has its defaults."""
    kind = extended(type(config))
    values = {name: extend(each) if isinstance(each, Settings) else each for name, each in vars(config).items()}
    changed = kind is not type(config) or any(values[name] is not each for name, each in vars(config).items())
    return kind(**values) if changed else config


def own_settings(config: Settings, settings: type[S]) -> S:
    """The settings of a plugin in a configuration.

    Args:
        config: what a builder or a reader is given: a `ModelConfig`, `DataConfig` or `TrainConfig`.
        settings: the class that was registered.

    Returns:
        The nested configuration; its defaults if the configuration was made without it.
    """
    return next((each for each in vars(config).values() if type(each) is settings), settings())


def with_settings(config: S, settings: Settings) -> S:
    """The configuration with the settings of a plugin, for Python: ``with_settings(ModelConfig(...), MyConfig(...))``.

    Raises:
        ValueError: no plugin has registered settings of this class for this configuration.
    """
    base = _BASE.get(type(config), type(config))
    name = next((name for name, kind in ADDED.get(base, {}).items() if kind is type(settings)), None)
    if name is None:
        raise ValueError(
            f"with_settings: {base.__name__} has no settings of class {type(settings).__name__}; load the plugin that"
            " registers it"
        )
    return dataclasses.replace(extend(config), **{name: settings})  # type: ignore[type-var]


def is_made(config: type) -> bool:
    """Whether a class was made by `extended`, so that it has no source text."""
    return config in _BASE


@cache
def _made(base: type[Settings], added: tuple[tuple[str, type], ...], changed: tuple[tuple[str, type], ...]) -> type:
    if not added and not changed:
        return base
    declared = {each.name: each for each in fields(base)}  # type: ignore[arg-type]
    new: list[Any] = [(name, kind, field(default_factory=kind)) for name, kind in added]
    for name, kind in changed:
        default: Callable[[], Any] | Any = dataclasses.MISSING if _has_no_default(declared[name]) else kind
        new.append((name, kind, field(default_factory=default, metadata=declared[name].metadata)))
    made = make_dataclass(base.__name__, new, bases=(base,), frozen=True, kw_only=True)
    made.__doc__ = base.__doc__
    _BASE[made] = base
    return made


def _has_no_default(each: dataclasses.Field[Any]) -> bool:
    return each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
