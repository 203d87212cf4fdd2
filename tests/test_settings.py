"""All configurations check their fields' types by the same mechanism."""

from __future__ import annotations

import builtins
import dataclasses
import importlib
import inspect
import pkgutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pytest

import fastvae
from fastvae import DataConfig, ModelConfig, TrainConfig
from fastvae.recipes import RECIPES
from fastvae.settings import Settings

RECORDS = {"Backend", "Resize", "StrategyKind"}  # have a Literal field but are not set by users


@dataclass(frozen=True, kw_only=True)
class Example(Settings):
    mode: Literal["a", "b"] = "a"
    maybe: Literal["a", 1] | None = None
    several: tuple[Literal["x", "y"], ...] = ()
    pair: tuple[int, Literal["x", "y"]] = (0, "x")
    path: Path | None = None
    paths: tuple[Path, ...] = ()
    hidden: Annotated[Literal["on", "off"], "suppressed"] = "on"
    either: tuple[Literal["x"], ...] | Literal["none"] = "none"
    free: Any = None


@dataclass(frozen=True, kw_only=True)
class Derived(Example):
    extra: Literal["c", "d"] = "c"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.extra == "d" and self.mode == "b":
            raise ValueError("not both")


@dataclass(frozen=True, kw_only=True)
class Undecorated(Derived):
    more: Literal["e"] = "e"


def package_classes() -> list[type]:
    found = []
    for module in pkgutil.walk_packages(fastvae.__path__, "fastvae."):
        if module.name.endswith(("._C", ".__main__")) or module.name.startswith("fastvae.libfastvae_"):
            continue  # nothing in Python, or a program
        members = vars(importlib.import_module(module.name)).values()
        found += [each for each in members if inspect.isclass(each) and each.__module__ == module.name]
    return [each for each in found if dataclasses.is_dataclass(each)]


class _AnyAttribute(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return Any


class Unknown(metaclass=_AnyAttribute):
    """What only type checkers import: a class, or a module with classes."""


class NamesOf(dict[str, Any]):
    """The names in a module; one that only type checkers import there, which is no Literal, is Any."""

    def __init__(self, module: str) -> None:
        super().__init__(vars(builtins) | vars(sys.modules[module]))

    def __missing__(self, name: str) -> Any:
        return Unknown


def literals(hint: Any) -> bool:
    return get_origin(hint) is Literal or any(literals(part) for part in get_args(hint))


def test_every_configuration_is_checked() -> None:
    """A new configuration, or a new field, must not omit the check."""
    unchecked = {
        each.__name__
        for each in package_classes()
        if not issubclass(each, Settings)
        and (
            each.__name__.endswith("Config")
            or any(
                literals(hint)
                for hint in get_type_hints(each, localns=NamesOf(each.__module__), include_extras=True).values()
            )
        )
    }
    assert unchecked == RECORDS


@pytest.mark.parametrize("kind", [each for each in package_classes() if issubclass(each, Settings)])
def test_an_unknown_choice_is_refused_in_every_configuration(kind: type[Settings]) -> None:
    hints = get_type_hints(kind, include_extras=True)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    required = {
        name: None
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    for name in (name for name, hint in hints.items() if name in fields and get_origin(hint) is Literal):
        with pytest.raises(ValueError, match=rf"{kind.__name__}: \w+ must be ") as caught:
            kind(**{**required, name: "no such"})
        if not required:
            assert f"{name} must be one of" in str(caught.value)
            assert "'no such'" in str(caught.value)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_valid(recipe: str) -> None:
    RECIPES[recipe]()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TrainConfig(optimizer="lion"), "optimizer must be one of adamw, adam, adamax, sgd, muon, got 'lion'"),  # type: ignore[arg-type]
        (lambda: TrainConfig(precision="fp16"), "precision must be one of fp32, bf16, got 'fp16'"),  # type: ignore[arg-type]
        (
            lambda: TrainConfig(schedule="step"),
            "schedule must be one of cosine, linear",
        ),  # type: ignore[arg-type]
        (lambda: ModelConfig(conditioning="gan"), "ModelConfig: conditioning must be one of"),  # type: ignore[arg-type]
        (lambda: ModelConfig(activation="gelu"), "activation must be one of relu, tanh"),  # type: ignore[arg-type]
        (lambda: ModelConfig(hidden_dim=400), r"hidden_dim must be a tuple, such as \(400,\), got 400"),  # type: ignore[arg-type]
        (lambda: DataConfig(condition="label"), r"condition must be a tuple, such as \('label',\), got 'label'"),  # type: ignore[arg-type]
        (lambda: DataConfig(dir=3), "DataConfig: dir must be a path, got 3"),  # type: ignore[arg-type]
    ],
)
def test_values_of_the_wrong_type_are_refused(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_values_are_converted_to_the_fields_types() -> None:
    made = Example(several=["x", "y"], path="a/b", paths=["a", Path("b")], pair=[1, "y"])  # type: ignore[arg-type]
    assert (made.several, made.path, made.pair) == (("x", "y"), Path("a/b"), (1, "y"))
    assert made.paths == (Path("a"), Path("b"))
    assert DataConfig(path="x.npy", name="file").path == Path("x.npy")  # type: ignore[arg-type]
    assert ModelConfig(hidden_dim=[3, 4]).hidden_dim == (3, 4)  # type: ignore[arg-type]
    assert dataclasses.replace(made, path=None).path is None


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"mode": "c"}, "Example: mode must be one of a, b, got 'c'"),
        ({"mode": None}, "mode must be one of a, b, got None"),
        ({"maybe": True}, "maybe must be one of a, 1, got True"),
        ({"several": ("x", "z")}, "several must be one of x, y, got 'z'"),
        ({"several": "x"}, "several must be a tuple"),
        ({"pair": (1,)}, "pair must have 2 values"),
        ({"pair": (1, "z")}, "pair must be one of x, y"),
        ({"hidden": "no"}, "hidden must be one of on, off"),
        ({"either": "some"}, "either must be one of none, got 'some'"),
        ({"paths": (1,)}, "paths must be a path, got 1"),
    ],
)
@pytest.mark.parametrize("kind", [Example, Derived, Undecorated])
def test_each_type_of_field(kind: type[Example], wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("Example", kind.__name__)):
        kind(**wrong)


def test_derived_configurations_keep_all_checks() -> None:
    for wrong in ({"extra": "e"}, {"mode": "b", "extra": "d"}):
        for kind in (Derived, Undecorated):
            with pytest.raises(ValueError, match=r"extra must be one of c, d|not both"):
                kind(**wrong)
    with pytest.raises(ValueError, match="more must be one of e"):
        Undecorated(more="f")  # type: ignore[arg-type]
