"""Names across packages: private names are used in their own package only, and `distributed` uses no VAE terms."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.source_tree import PACKAGE, SourceFile, called_name, imported_modules, source_files

VAE_WORDS = set(
    "vae autoencoder encode encoder decode decoder reconstruct reconstruction generate latent posterior prior"
    " likelihood kl elbo rate distortion".split()
)


def is_private(name: str) -> bool:
    """Whether a name begins with exactly one underscore."""
    return name.startswith("_") and not name.startswith("__") and name != "_"


def private_definitions(file: SourceFile) -> Iterator[str]:
    """Yield the private names that a file defines: modules, functions, classes, variables, fields and attributes."""
    yield from (part for part in file.name.removesuffix(".py").split("/") if is_private(part))
    for node in ast.walk(file.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and is_private(node.name):
            yield node.name
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            name = node.id if isinstance(node, ast.Name) else node.attr
            yield from [name] if is_private(name) else []


def private_uses(file: SourceFile) -> Iterator[tuple[int, str]]:
    """Yield line numbers and names where a file uses a private name other than `self._x`."""
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and ast.unparse(node.value) not in ("self", "cls"):
            yield node.lineno, node.attr
        elif isinstance(node, ast.Call) and called_name(node) in ("getattr", "hasattr", "setattr"):
            names = [str(argument.value) for argument in node.args[1:2] if isinstance(argument, ast.Constant)]
            yield from ((node.lineno, name) for name in names if is_private(name))


def foreign_private_names(package: Path) -> list[str]:
    """Descriptions of all uses of private names of another unit."""
    files = source_files(package)
    owners: dict[str, set[str]] = defaultdict(set)
    for file in files:
        for name in private_definitions(file):
            owners[name].add(file.unit)
    found = []
    for file in files:
        for module in imported_modules(file):
            unit, *parts = module.split(".")[1:] or [""]
            if module.startswith("fastvae.") and unit != file.unit and unit != "_C" and any(map(is_private, parts)):
                found.append(f"{file.name} imports {module}, which is private")
        for line, name in private_uses(file):
            if owners[name] and file.unit not in owners[name]:
                found.append(f"{file.name}:{line} reads {name}, which is private to {', '.join(sorted(owners[name]))}")
    return found


def vae_words(file: SourceFile) -> Iterator[str]:
    """Yield VAE terms in a file's names and strings, except in docstrings."""
    documents = {id(node.value) for node in ast.walk(file.tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Attribute) and node.attr in ("encode", "decode") and "model" not in ast.unparse(node):
            continue  # str.encode and bytes.decode
        texts = [getattr(node, field, None) for field in ("id", "attr", "arg", "name")]
        if isinstance(node, ast.Constant) and id(node) not in documents:
            texts.append(node.value)
        for text in texts:
            if isinstance(text, str):
                words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", text)
                yield from (word.lower() for word in words if word.lower() in VAE_WORDS)


def test_private_names_are_used_in_their_package_only() -> None:
    assert foreign_private_names(PACKAGE) == []


def test_distributed_uses_no_vae_terms() -> None:
    found = {(file.name, word) for file in source_files() if file.unit == "distributed" for word in vae_words(file)}
    assert found == set()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("from fastvae.ops._checks import check_key", "imports fastvae.ops._checks.check_key, which is private"),
        ("from fastvae.ops.noise import _in_range", "imports fastvae.ops.noise._in_range, which is private"),
        ("noise._in_range()", "reads _in_range, which is private to ops"),
        ("getattr(noise, '_in_range')", "reads _in_range, which is private to ops"),
        ("x._hidden", "reads _hidden, which is private to ops"),
        ("torch._dynamo", None),
        ("self._hidden", None),
    ],
)
def test_a_private_name_of_another_package_is_found(tmp_path: Path, line: str, complaint: str | None) -> None:
    for file, text in (("ops/noise.py", "def _in_range(): ...\nself._hidden = 1"), ("nn/mlp.py", line)):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_text(text)
    found = foreign_private_names(tmp_path)
    assert len(found) == (complaint is not None)
    assert complaint is None or found[0].endswith(complaint)


@pytest.mark.parametrize(
    "line", ["hasattr(m, 'encode')", "model.encode(x)", "m.encoder", "class VAEStrategy: ...", "f(kl_weight=1)"]
)
def test_a_vae_term_is_found(line: str) -> None:
    assert list(vae_words(SourceFile("distributed/x.py", ast.parse(line))))
    assert not list(
        vae_words(SourceFile("distributed/x.py", ast.parse('"""A VAE."""\ngenerator = separate\ntext.encode()')))
    )
