"""The base class of configurations, which checks the types of fields."""

from __future__ import annotations

import dataclasses
import os
import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

_CHANGES_RESULT = "changes_result"
_ADVANCED = "advanced"


class Rule:
    """An annotation of a type, ``Annotated[TYPE, rule]``, that checks and converts the values of its fields."""

    def check(self, value: Any, where: str) -> Any:
        """Return the converted value.

        Raises:
            ValueError: the value breaks the rule; ``where`` names the field.
        """
        raise NotImplementedError


class _CheckedArguments(type):
    """Checks and converts the arguments of a configuration before it is made, so that it never changes itself."""

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        positional = [each.name for each in fields(cls) if each.init and not each.kw_only]  # type: ignore[arg-type]
        hints = _hints(cls)

        def check(name: str, value: Any) -> Any:
            return _checked(hints[name], value, f"{cls.__name__}: {name}") if name in hints else value

        some = (check(name, value) for name, value in zip(positional, arguments, strict=False))
        rest = arguments[len(positional) :]  # too many: the class itself refuses them
        return super().__call__(*some, *rest, **{name: check(name, value) for name, value in named.items()})


class Settings(metaclass=_CheckedArguments):
    """A dataclass whose fields are what their types say, of those types that Python itself does not look at.

    A ``Literal`` field is one of its values; a ``Path`` takes a string; a tuple takes a list, and each of its items is
    checked; ``None`` is for fields that allow it. Arguments are checked before the class's own ``__post_init__`` runs.

    Raises:
        ValueError: an argument is something else; the message has the field, what it may be, and the value.
    """

    def __post_init__(self) -> None:
        """Nothing: for subclasses that call ``super().__post_init__()``."""


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _checked(hint: Any, value: Any, where: str) -> Any:
    """Validate and convert a value for a field of that type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        rules = [each for each in arguments[1:] if isinstance(each, Rule)]
        return rules[0].check(value, where) if rules else _checked(arguments[0], value, where)
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


def has_rule(kind: type[Settings], name: str, rule: type[Rule]) -> bool:
    """Whether the type of a field has an annotation of this class."""
    return any(isinstance(each, rule) for each in get_args(_hints(kind)[name])[1:])


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
