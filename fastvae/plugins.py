"""Plugins: a user's own modules, which register kinds of data, families of models, likelihoods and tasks.

A plugin is imported only if the command line (``--plugin my_package``) or Python (``fastvae.load(run, plugins=...)``)
names it, never because a file of a run does. A run records the names and digests of the plugins that were loaded.
Nothing here imports PyTorch.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

_DIGESTS: dict[str, str] = {}  # of the plugins that this process has loaded, by module name


def load_plugins(names: Iterable[str], folder: Path | None = None) -> None:
    """Import plugins, each once.

    Args:
        names: modules, such as ``my_package`` or ``my_package.models``.
        folder: a folder that is searched first, and stays on ``sys.path``; None searches Python's path alone.

    Raises:
        ValueError: a name is not that of a module, or its import fails; the message has the reason.
    """
    names = [names] if isinstance(names, str) else list(names)
    if names and folder is not None and str(folder) not in sys.path[:1]:
        sys.path.insert(0, str(folder))
    for name in names:
        if name not in _DIGESTS:
            _DIGESTS[name] = _digest(name, _import(name, folder))


def loaded_plugins() -> dict[str, str]:
    """The plugins that this process has loaded: the SHA-256 of their source files by module name."""
    return dict(_DIGESTS)


def plugin_words() -> list[str]:
    """The loaded plugins as words of a command line, for another process that runs the same command."""
    return [f"--plugin={name}" for name in _DIGESTS]


def take_plugins(words: Iterable[str]) -> tuple[list[str], list[str]]:
    """Take ``--plugin NAME [NAME ...]`` out of the words of a command line.

    Returns:
        The names, and the other words.

    Raises:
        ValueError: the option has no value.
    """
    names: list[str] = []
    others: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        if option != "--plugin":
            others.append(word)
            continue
        values = [value] if equals else []
        while not equals and rest and not rest[0].startswith("-"):
            values.append(rest.pop(0))
        if not all(values) or not values:
            raise ValueError("--plugin: must name a module, such as --plugin my_package, got none")
        names += values
    return names, others


def why_other_plugins(directory: Path, record: Mapping[str, Any] | None) -> tuple[str | None, str | None]:
    """Compare the plugins of a run with those that are loaded.

    Args:
        directory: the run directory, for the messages.
        record: its ``run.json``; None without a run.

    Returns:
        Why the run cannot be read, or None; and which plugins have other source files, or None.

    Raises:
        ValueError: the record does not list plugins.
    """
    recorded = {} if record is None else record.get("plugins", {})
    if not isinstance(recorded, dict) or not all(isinstance(digest, str) for digest in recorded.values()):
        raise ValueError(f"{directory}: run.json must list plugins and their digests, got {recorded!r:.60}")
    missing = [name for name in recorded if name not in _DIGESTS]
    other = [name for name, digest in recorded.items() if _DIGESTS.get(name, digest) != digest]
    need, differ = None, None
    if missing:
        names = " ".join(missing)
        need = (
            f"{directory} was trained with plugin {names}; if you trust its code, add --plugin {names}"
            f" (in Python: plugins={tuple(missing)!r})"
        )
    if other:
        changes = ", ".join(f"{name} (was {recorded[name][:12]}, now {_DIGESTS[name][:12]})" for name in other)
        differ = f"{directory} was trained with other source files of plugin {changes}"
    return need, differ


def _import(name: str, folder: Path | None) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(
            f"--plugin: must be the name of a module, such as my_package, got {name!r}; a file my_package.py is named"
            " without .py, and other words of the command line come before --plugin"
        )
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a user's code may raise anything
        places = "Python's path" if folder is None else f"{folder} and Python's path"
        reason = " ".join(str(error).split())
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            places += "; other words of the command line come before --plugin"
        raise ValueError(
            f"plugin {name} cannot be imported: {type(error).__name__}: {reason}{place_of(error)}; searched {places}"
        ) from error
    if module.__file__ is None:
        raise ValueError(f"plugin {name} must be a file {name}.py or a folder with an __init__.py, got {module!r}")
    return module


def place_of(error: Exception) -> str:
    """The file and line of the user's code that raised an error; empty if the module was not found."""
    frames = [each for each in traceback.extract_tb(error.__traceback__) if not _is_machinery(each.filename)]
    frames = [each for each in frames if "site-packages" not in each.filename] or frames
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""


def _is_machinery(file: str) -> bool:
    return "importlib" in file or Path(file).is_relative_to(Path(__file__).parent)


def _digest(name: str, module: ModuleType) -> str:
    """SHA-256 of a module's file, or of all Python files of a package with their relative paths."""
    assert module.__file__ is not None
    file = Path(module.__file__)
    files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
    digest = hashlib.sha256()
    try:
        for each in files:
            content = each.read_bytes()
            digest.update(f"{each.relative_to(file.parent).as_posix()} {len(content)}\n".encode() + content)
    except OSError as error:
        raise ValueError(f"plugin {name}: its source files cannot be read: {error}") from error
    return digest.hexdigest()
