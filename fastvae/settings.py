"""The base class of configurations, which checks the types of fields."""

from __future__ import annotations

import dataclasses
import os
import types
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

_CHANGES_RESULT = "changes_result"
_ADVANCED = "advanced"


class Settings:
    """A dataclass whose fields are validated against their type annotations.

    A ``Literal`` field must have one of its values; a ``Path`` accepts a string; a tuple accepts a list, and its
    items is checked; ``None`` requires an optional field. This precedes the class's own ``__post_init__``.

    Raises:
        ValueError: a value does not match; the message has the field, the allowed values, and the value.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own: Callable[[Any], None] | None = cls.__dict__.get("__post_init__")

        def checked(self: Settings) -> None:
            if type(self).__post_init__ is checked:  # not again if a subclass's has done it
                _check_fields(self)
            if own is not None:
                own(self)
            else:
                super(cls, self).__post_init__()  # type: ignore[misc]  # mypy sees the base alone

        cls.__post_init__ = checked  # type: ignore[method-assign]

    def __post_init__(self) -> None:  # a subclass's takes its place, see above
        """Do nothing: the base has no fields."""


def _check_fields(settings: Settings) -> None:
    hints = _hints(type(settings))  # type: ignore[arg-type]  # a class is hashable
    for field in fields(settings):  # type: ignore[arg-type]
        value = getattr(settings, field.name)
        checked = _checked(hints[field.name], value, f"{type(settings).__name__}: {field.name}")
        if checked is not value:
            object.__setattr__(settings, field.name, checked)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _checked(hint: Any, value: Any, where: str) -> Any:
    """Validate and convert a value for a field of that type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _checked(arguments[0], value, where)
    if origin is Literal:
        if not any(value == known and type(value) is type(known) for known in arguments):
            raise ValueError(f"{where} must be one of {', '.join(map(str, arguments))}, got {value!r}")
        return value
    if origin in (Union, types.UnionType):
        return _checked_union(arguments, value, where)
    if origin is tuple:
        return _checked_tuple(arguments, value, where)
    if hint is Path:
        if not isinstance(value, (str, os.PathLike)):
            raise ValueError(f"{where} must be a path, got {value!r}")
        return value if isinstance(value, Path) else Path(value)
    return value


def _checked_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    others = [kind for kind in kinds if kind is not type(None)]
    for kind in others[:-1]:
        try:
            return _checked(kind, value, where)
        except ValueError:
            continue
    return _checked(others[-1], value, where)


def _checked_tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (tuple, list)):
        raise ValueError(f"{where} must be a tuple, such as ({value!r},), got {value!r}")
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise ValueError(f"{where} must have {len(kinds)} values, got {value!r}")
    checked = tuple(_checked(kind, item, where) for kind, item in zip(kinds, value, strict=True))
    return value if isinstance(value, tuple) and all(a is b for a, b in zip(checked, value, strict=True)) else checked


def setting(default: Any, *, changes_result: bool = True, advanced: bool = False) -> Any:
    """Declare a field of a configuration, and whether a resumed run may change its value.

    Args:
        default: the field's default, or the class of a nested configuration whose defaults are used.
        changes_result: False if the value affects only how a run is executed, monitored or stored, and its results are
            the same to float round-off. Fields that are declared without this function change the result.
        advanced: True shows the option, or all those of a nested configuration, in ``--help-all`` only.
    """
    metadata = {_CHANGES_RESULT: changes_result, _ADVANCED: advanced}
    if isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def is_advanced(field: dataclasses.Field[Any]) -> bool:
    """Whether a field of a configuration is shown in ``--help-all`` only."""
    return bool(field.metadata.get(_ADVANCED, False))


def settings_without_effect(kind: type, prefix: str) -> Iterator[str]:
    """Yield the dotted names of a configuration's fields, including nested ones, that do not change results."""
    for each in fields(kind):
        name = f"{prefix}.{each.name}"
        if not each.metadata.get(_CHANGES_RESULT, True):
            yield name
        hint = _hints(kind)[each.name]
        for nested in (hint, *get_args(hint)):
            if is_dataclass(nested) and isinstance(nested, type):
                yield from settings_without_effect(nested, name)
