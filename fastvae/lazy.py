"""Import a package's public names on first use (PEP 562).

``import fastvae`` and commands such as ``fastvae recipes`` therefore do not import PyTorch. A package lists the modules
of its names twice: at run time for Python, and under ``TYPE_CHECKING`` for type checkers. tests/test_startup.py checks
that the two lists agree.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, homes: Mapping[str, Sequence[str]], modules: Sequence[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make the ``__getattr__`` and ``__dir__`` of a package whose names are defined in its modules.

    Args:
        package: the package's ``__name__``.
        homes: for each module, the names that the package exports from it. A name must not also be the name of a
            module of the package, because importing that module would overwrite it.
        modules: modules that the package exports as names.

    Returns:
        ``__getattr__`` and ``__dir__``.
    """
    home_of = {name: module for module, names in homes.items() for name in names}

    def get_attribute(name: str) -> Any:
        if name in modules:
            return import_module(f"{package}.{name}")
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{home_of[name]}"), name)
        setattr(sys.modules[package], name, value)  # later accesses do not call this function
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *home_of, *modules})

    return get_attribute, names
