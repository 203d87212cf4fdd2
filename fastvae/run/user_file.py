"""A user's file that builds model and data: `fastvae train my_module.py:build`.

The file is imported only if the command line names it, never because a file of a run does. A run records the path of
the file and the digest of its content.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastvae.plugins import place_of

if TYPE_CHECKING:
    import torch
    from torch import nn

    from fastvae.run.loaded import LoadedRun
    from fastvae.train import Run, TrainConfig

_SUFFIX = ".py"
_DEFAULT = "build"


@dataclass(frozen=True)
class UserFile:
    """A function in a user's file, which returns ``(model, data)`` or ``(model, data, TrainConfig)``."""

    path: Path
    """The Python file."""
    function: str = _DEFAULT
    """The name of the function; it is called without arguments, in every process of the run."""

    @classmethod
    def parse(cls, word: str) -> UserFile:
        """The function that a word such as ``my_module.py:build`` names.

        Raises:
            ValueError: the word is not of this form, or the file does not exist.
        """
        name, _, function = word.partition(":")
        if not cls.is_named_by(word) or not (function or _DEFAULT).isidentifier():
            raise ValueError(
                f"a user's file must be given as FILE.py:FUNCTION, such as my_module.py:build, got {word!r}"
            )
        path = Path(name).expanduser()
        if not path.is_file():
            raise ValueError(f"{name}: no such file; {word} must name a Python file and a function in it")
        return cls(path, function or _DEFAULT)

    @classmethod
    def is_named_by(cls, word: str) -> bool:
        """Whether a word of a command line names a Python file rather than a recipe."""
        return word.partition(":")[0].endswith(_SUFFIX)

    @property
    def digest(self) -> str:
        """SHA-256 of the file's content."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def description(self) -> dict[str, Any]:
        """What a run records of the file."""
        return {"file": self.path.absolute(), "function": self.function, "sha256": self.digest}

    def build(self, seed: int) -> Built:
        """Import the file and call the function.

        PyTorch's generator has the seed of the run during the call, so that the initial weights are a function of the
        seed and equal in all processes; afterwards it is as before.

        Raises:
            ValueError: the file has no such function, it or the function raised an exception, or the function returns
                something else.
        """
        import torch  # imported here: it takes a second

        from fastvae.train import TrainConfig

        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            try:
                found = self._function()()
            except Exception as error:  # a user's code may raise anything
                reason = " ".join(str(error).split())
                raise ValueError(
                    f"{self.path}:{self.function} raised {type(error).__name__}: {reason}{place_of(error)}"
                ) from error
        is_tuple = isinstance(found, tuple) and len(found) in (2, 3) and isinstance(found[0], torch.nn.Module)
        if not is_tuple or (len(found) == 3 and not isinstance(found[2], TrainConfig)):
            kinds = [type(item).__name__ for item in found] if isinstance(found, tuple) else type(found).__name__
            raise ValueError(
                f"{self.path}: {self.function} must return (model, data) or (model, data, fastvae.TrainConfig), where"
                f" the model is a torch.nn.Module, got {kinds}"
            )
        return Built(found[0], found[1], found[2] if len(found) == 3 else TrainConfig())

    def _function(self) -> Any:
        name = f"fastvae_file_{self.path.stem}"
        spec = importlib.util.spec_from_file_location(name, self.path)
        assert spec is not None  # the suffix is that of a Python file
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        folder = str(self.path.absolute().parent)
        if folder not in sys.path:
            sys.path.insert(0, folder)  # as Python does for a script: the file may import its neighbours
        sys.modules[name] = module  # dataclasses and pickles of the file look their module up
        spec.loader.exec_module(module)
        functions = {
            name: value for name, value in vars(module).items() if callable(value) and not name.startswith("_")
        }
        if self.function not in functions:
            known = ", ".join(functions) or "none"
            raise ValueError(f"{self.path} must define the function {self.function}, found: {known}")
        return functions[self.function]


@dataclass(frozen=True)
class Built:
    """What the function of a user's file returned."""

    model: nn.Module
    data: Any
    config: TrainConfig


def start_file(
    file: UserFile, built: Built, config: TrainConfig, *, run_dir: Path, seed: int, weights: Path | None = None
) -> Run:
    """Train what a user's file has built; all ranks call it alike.

    Args:
        file: the file, which the run records.
        built: the result of ``file.build(seed)``.
        config: the settings of the run.
        run_dir: the run directory.
        seed: the seed of the run.
        weights: a safetensors file of initial weights; None keeps those of the built model.
    """
    from fastvae.train import load_weights, train

    if weights is not None:
        load_weights(built.model, weights)
    description = {"recipe": file.path.stem, "module": file.description, "weights": weights}
    return train(built.model, built.data, config, run_dir=run_dir, seed=seed, description=description)


def load_with_file(directory: Path, word: str, *, device: str | torch.device = "cpu") -> LoadedRun:
    """A run whose model and data a user's file builds; see `fastvae.load`.

    Args:
        directory: the run directory.
        word: the function, such as ``my_module.py:build``.
        device: where to compute.

    Raises:
        ValueError: the run was trained from a recipe, or what `fastvae.load` raises.
    """
    from fastvae.run.config import read_fields
    from fastvae.run.loading import load

    file, fields = UserFile.parse(word), read_fields(directory)
    if fields.get("model") is not None:
        raise ValueError(f"--module: {directory} was trained from a recipe, which needs no module; omit --module")
    recorded = fields.get("module")
    if isinstance(recorded, dict) and recorded.get("sha256") != file.digest:
        print(f"warning: {file.path} has changed since the run; results can differ", file=sys.stderr, flush=True)
    built = file.build(fields.get("seed", 0))
    return load(directory, model=built.model, data=built.data, device=device)
