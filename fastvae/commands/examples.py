"""Commands that write examples as images, text, WAV files or tables."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastvae import figures
from fastvae.commands.options import (
    Device,
    OnRun,
    RunDirectory,
    conditions,
    is_numbers,
    load_run,
    output_path,
    save_numbers,
    write_examples,
)
from fastvae.commands.ranks import OnRanks

if TYPE_CHECKING:
    from torch import Tensor

    from fastvae.distributed import Rounds
    from fastvae.run import LoadedRun


@dataclass(frozen=True)
class Sample(OnRanks):
    """Sample new examples from the prior, or variations of a test example, and write them.

    Under torchrun, the processes share the examples.
    """

    run: RunDirectory
    """The run directory."""
    num: int = 64
    """Number of examples."""
    label: str | None = None
    """Class of the samples, if the run was trained with --data.condition label; None cycles through all."""
    length: str | None = None
    """Length of the samples, if the run was trained with --data.condition length."""
    condition: tuple[str, ...] = ()
    """Other conditions, as NAME=VALUE."""
    like: int | None = None
    """Index of a test example to vary, instead of sampling from the prior."""
    attribute: str | None = None
    """Shift the latents along the direction of this attribute, such as label=3."""
    strength: float | None = None
    """Size of the change: standard deviation of the noise for --like (default 0.5), or multiple of the mean difference
    for --attribute (default 1)."""
    temperature: float | None = None
    """Temperature of sentences: less than 1 prefers likely tokens; None is the run's --model.text.temperature."""
    seed: int = 0
    """Random seed."""
    out: Path | None = None
    """Output file or folder; None is samples.png (or .txt, ...) in the run directory. A .npz file stores the examples
    as an array."""

    def __call__(self) -> int:
        from fastvae.run.chunks import drain  # imported here: they import PyTorch
        from fastvae.run.generated import join

        with self.on_ranks(self.run) as (loaded, rounds):
            path = output_path(loaded, self.out, "samples")
            found, title = self._draw(loaded, rounds)
            if not rounds.is_main:
                drain(found)
                return 0
            examples = join(found)
        print(write_examples(loaded, path, examples, title=title))
        return 0

    def _draw(self, loaded: LoadedRun, rounds: Rounds) -> tuple[Iterator[Tensor], str]:
        from fastvae.run.generated import sample_chunks, vary_chunks  # imported here: it imports PyTorch

        given = conditions(self.label, self.length, self.condition)
        if self.strength is not None and not math.isfinite(self.strength):
            raise ValueError(f"--strength must be a finite number, got {self.strength}")
        if self.like is not None:
            if given or self.attribute or self.temperature is not None:
                raise ValueError(
                    "--like uses the example's own condition and does not accept conditions, --attribute or "
                    "--temperature"
                )
            strength = 0.5 if self.strength is None else self.strength
            varied = vary_chunks(loaded, self.like, self.num, strength=strength, seed=self.seed, rounds=rounds)
            return varied, f"like test example {self.like}"
        shift = None
        if self.attribute is not None:
            shift = loaded.attribute_direction(self.attribute) * (1.0 if self.strength is None else self.strength)
        elif self.strength is not None:
            raise ValueError("--strength requires --like or --attribute")
        words = [f"{name} {value}" for name, value in given.items()] + ([self.attribute] if self.attribute else [])
        title = ", ".join(["samples from the prior", *words])
        samples = sample_chunks(
            loaded, self.num, given, seed=self.seed, shift=shift, temperature=self.temperature, rounds=rounds
        )
        return samples, title


@dataclass(frozen=True)
class Decode(OnRun):
    """Decode the latents in a file, such as one of `fastvae encode`, and write the examples."""

    run: RunDirectory
    """The run directory."""
    data: Path
    """A .npz file with mu [N, D], as `fastvae encode` writes it, or z [N, D]; or a .npy file of [N, D]."""
    label: str | None = None
    """Class of the examples, if the run was trained with --data.condition label; None cycles through all."""
    length: str | None = None
    """Length of the examples, if the run was trained with --data.condition length."""
    condition: tuple[str, ...] = ()
    """Other conditions, as NAME=VALUE."""
    out: Path | None = None
    """Output file or folder; None is decoded.png (or .txt, ...) in the run directory. A .npz file stores the examples
    as an array."""
    device: Device = "auto"
    """Device; auto is a GPU if one is available."""

    def __call__(self) -> int:
        z = read_latents(self.data)
        loaded = load_run(self.run, self.device, self.module)
        path = output_path(loaded, self.out, "decoded")
        examples = loaded.decode(z, seed=None, **conditions(self.label, self.length, self.condition))
        title = f"decoded from {self.data.name}"
        print(write_examples(loaded, path, examples, title=title))
        return 0


def read_latents(path: Path) -> Tensor:
    """Read the latents [N, D] of a .npz or .npy file as float32.

    Raises:
        ValueError: the file contains no latents, or values that are not finite.
    """
    import numpy as np
    import torch

    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.lib.npyio.NpzFile):
            with loaded:
                found = [loaded[name] for name in ("mu", "z") if name in loaded.files]
        else:
            found = [loaded]
    except OSError as error:
        raise ValueError(f"--data: {path} cannot be read as a .npz or .npy file: {error}") from None
    except (ValueError, EOFError, zipfile.BadZipFile):  # the text of these errors is about pickles, which are not read
        raise ValueError(
            f"--data: {path} cannot be read as a .npz or .npy file of numbers: it is another file, or damaged;"
            " `fastvae encode` writes one"
        ) from None
    if not found or found[0].ndim != 2 or not len(found[0]) or found[0].dtype.kind not in "fiu":
        has = f"{found[0].dtype} of shape {list(found[0].shape)}" if found else "neither"
        raise ValueError(f"--data: {path} must contain mu or z, numbers [N, D], got {has}; see `fastvae encode`")
    z = torch.from_numpy(found[0].astype(np.float32))
    if not bool(z.isfinite().all()):
        raise ValueError(f"--data: {path} must contain finite latents, got NaN or infinity; remove those rows")
    return z


@dataclass(frozen=True)
class Reconstruct(OnRun):
    """Write test examples and their reconstructions."""

    run: RunDirectory
    """The run directory."""
    num: int = 24
    """Number of examples; the first ones are used."""
    data: Path | None = None
    """A file or folder of examples; None is the test set."""
    out: Path | None = None
    """Output file or folder; None is reconstructions.png (or .txt, ...) in the run directory. A .npz file stores
    the originals and the reconstructions as arrays."""
    device: Device = "auto"
    """Device; auto is a GPU if one is available."""

    def __call__(self) -> int:
        loaded = load_run(self.run, self.device, self.module)
        path = output_path(loaded, self.out, "reconstructions")
        originals, reconstructions = loaded.reconstruct(self.num, self.data or "test")
        if is_numbers(path):
            save_numbers(path, originals=originals, reconstructions=reconstructions)
        else:
            title = f"{loaded.data.name}: reconstructions"
            figures.find_renderer(loaded.data).write_pairs(
                path, originals.cpu(), reconstructions.cpu(), loaded.data, title=title
            )
        print(path)
        return 0


@dataclass(frozen=True)
class Interpolate(OnRun):
    """Decode points on the straight line between two test examples in the latent space."""

    run: RunDirectory
    """The run directory."""
    first: int
    """Index of the test example at the start."""
    second: int
    """Index of the test example at the end."""
    steps: int = 9
    """Number of examples on the line, including both ends."""
    out: Path | None = None
    """Output file or folder; None is interpolation.png (or .txt, ...) in the run directory. A .npz file stores
    the examples as an array."""
    device: Device = "auto"
    """Device; auto is a GPU if one is available."""

    def __call__(self) -> int:
        loaded = load_run(self.run, self.device, self.module)
        path = output_path(loaded, self.out, "interpolation")
        examples = loaded.interpolate(self.first, self.second, steps=self.steps)
        if is_numbers(path):
            save_numbers(path, examples=examples)
        else:
            title = f"{loaded.data.name}: from test example {self.first} to {self.second}"
            row = examples.unsqueeze(0).cpu()
            figures.find_renderer(loaded.data).write_rows(path, row, [""], loaded.data, title=title)
        print(path)
        return 0


@dataclass(frozen=True)
class Traverse(OnRun):
    """Decode a row of examples along each latent dimension, or along the direction of an attribute."""

    run: RunDirectory
    """The run directory."""
    dimensions: int = 10
    """Number of dimensions: those whose posterior means vary most over the test set."""
    steps: int = 9
    """Number of examples per row."""
    span: float = 3.0
    """Half the length of the row in standard deviations (for an attribute: in mean differences)."""
    attribute: str | None = None
    """Direction of this attribute, such as label=3, instead of dimensions."""
    start: int | None = None
    """Index of the test example at the centre of the rows; None is the mean of all."""
    label: str | None = None
    """Class of the examples, if the run was trained with --data.condition label."""
    length: str | None = None
    """Length of the examples, if the run was trained with --data.condition length."""
    condition: tuple[str, ...] = ()
    """Other conditions, as NAME=VALUE."""
    out: Path | None = None
    """Output file or folder; None is traversal.png (or .txt, ...) in the run directory. A .npz file stores
    the examples as an array [rows, steps, ...]."""
    device: Device = "auto"
    """Device; auto is a GPU if one is available."""

    def __call__(self) -> int:
        loaded = load_run(self.run, self.device, self.module)
        path = output_path(loaded, self.out, "traversal")
        rows = loaded.traverse(
            self.dimensions,
            steps=self.steps,
            span=self.span,
            attribute=self.attribute,
            start=self.start,
            **conditions(self.label, self.length, self.condition),
        )
        if is_numbers(path):
            save_numbers(path, examples=rows.examples)
        else:
            widths = "deviations" if self.attribute is None else "mean differences"
            title = f"{loaded.data.name}: {self.span:g} {widths} to either side"
            renderer = figures.find_renderer(loaded.data)
            renderer.write_rows(path, rows.examples.cpu(), rows.names, loaded.data, title=title)
        print(path)
        return 0
