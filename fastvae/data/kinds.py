"""The list of kinds, and the kind of a configuration. This module does not import PyTorch."""

from __future__ import annotations

from dataclasses import replace

from fastvae.data.audio.kind import KIND as AUDIO
from fastvae.data.config import DataConfig
from fastvae.data.interactions.kind import KIND as INTERACTIONS
from fastvae.data.kind import Kind
from fastvae.data.pixels.kind import KIND as PIXELS
from fastvae.data.table.kind import KIND as TABLE
from fastvae.data.text.kind import KIND as TEXT
from fastvae.own_settings import add_settings
from fastvae.settings import Settings

ANY = "file"  # the name for a path whose kind is detected
# By name, in the order in which a path is tried: interactions are a table too, so they come first.
KINDS: dict[str, Kind] = {kind.name: kind for kind in (PIXELS, INTERACTIONS, TEXT, TABLE, AUDIO)}


def register_kind(kind: Kind, config: type[Settings] | None = None) -> None:
    """Add a user's kind of data; a path is tried as this kind after those that were registered before.

    Args:
        kind: the declaration.
        config: settings of its own, which its readers get by `fastvae.own_settings.own_settings` and the command line
            has as ``--data.NAME.FIELD``; None for none.

    Raises:
        ValueError: the name of the kind, or of one of its data sets, already exists.
    """
    taken = {ANY, *KINDS, *dataset_names()}
    twice = [name for name in (kind.name, *kind.datasets) if name in taken]
    if twice:
        raise ValueError(f"register_kind: names must be new, {', '.join(twice)} is taken; choose another")
    if config is not None:
        kind = replace(kind, options=(*kind.options, add_settings(DataConfig, kind.name, config)))
    KINDS[kind.name] = kind


def dataset_names() -> tuple[str, ...]:
    """The names of all data sets, for ``--data.name`` without a path."""
    return tuple(name for kind in KINDS.values() for name in kind.datasets)


def kind_of_dataset(name: str) -> Kind | None:
    """Return the kind of a data set by name; None for an unknown name."""
    return next((kind for kind in KINDS.values() if name in kind.datasets), None)


def resolve(config: DataConfig) -> DataConfig:
    """Return the configuration with the name that its path implies; a pure, idempotent function.

    A path replaces the data set: it is read as the kind of the recipe's data set or, if that kind accepts any path, as
    the kind that is detected from the file (name ``file``).

    Raises:
        ValueError: the name refers to user data, and there is no path.
    """
    is_own = config.name == ANY or config.name in KINDS
    if config.path is None:
        if is_own:
            raise ValueError(f"DataConfig: name={config.name} needs a path (--data.path), got none")
        return config
    if is_own:
        return config
    kind = kind_of_dataset(config.name)
    return replace(config, name=ANY if kind is None or kind.takes_any_path else kind.name)


def kind_of(config: DataConfig) -> str | None:
    """Return the name of the kind of a configuration, such as pixels; None if it depends on the data.

    It is None for a path whose kind is detected (``name="file"``, or a path in place of a data set of pixels), and
    for an unknown name.
    """
    name = config.name if config.path is None else resolve(config).name
    if name in KINDS:
        return name
    kind = kind_of_dataset(name)
    return None if kind is None else kind.name


def kind_options() -> dict[str, tuple[str, ...]]:
    """Return the fields of `DataConfig` that only one kind reads, by kind; the other fields are for every kind."""
    return {name: kind.options for name, kind in KINDS.items()}
