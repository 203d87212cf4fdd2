"""The package's files as syntax trees, and the imports of each, for tests of the package's structure."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "fastvae"


@dataclass(frozen=True)
class SourceFile:
    """One file of a package."""

    name: str
    """Its path in the package, such as ``models/vae.py``."""
    tree: ast.Module

    @property
    def unit(self) -> str:
        """The top-level package or module of ``fastvae`` that contains the file; ``__init__`` is fastvae itself."""
        return self.name.removesuffix(".py").split("/")[0]

    @property
    def module(self) -> str:
        """The dotted name of the module; that of the package for an ``__init__.py``."""
        parts = self.name.removesuffix(".py").removesuffix("__init__").split("/")
        return ".".join(part for part in ("fastvae", *parts) if part)


def source_files(package: Path = PACKAGE) -> list[SourceFile]:
    """Return every Python file of a package."""
    paths = sorted(package.rglob("*.py"))
    return [SourceFile(path.relative_to(package).as_posix(), ast.parse(path.read_text(), str(path))) for path in paths]


def imported_modules(file: SourceFile) -> Iterator[str]:
    """Return the dotted names that a file imports, relative ones resolved, and those that ``from x import y`` may load.

    A literal name that is passed to ``import_module`` or ``__import__`` is included.
    """
    parents = ["fastvae", *file.name.split("/")[:-1]]
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and called_name(node) in ("import_module", "__import__"):
            names = [argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)]
            yield from (name for name in names if isinstance(name, str))


def called_name(call: ast.Call) -> str:
    """Return the last name of the called expression: ``f`` of ``a.b.f()``."""
    return ast.unparse(call.func).rpartition(".")[2]
