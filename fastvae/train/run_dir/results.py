"""Results of a finished run: its weights and figures."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from fastvae import figures
from fastvae.data import DESCRIPTION, Data, Source, describe, evaluation_batches
from fastvae.data.files.stamp import why_changed
from fastvae.generative import AnyModel, mean_of
from fastvae.ops import noise_key
from fastvae.records import Batch
from fastvae.train.run_dir.files import write_atomic
from fastvae.train.run_dir.run_dir import RunDir

_MAX_LATENTS = 5000  # points of the latent-space figure: more would overlap
_MAX_REASON = 300  # characters
_ENCODED_AT_A_TIME = 500  # examples: limits the memory of a deep encoder


def check_same_data(run_dir: Path, data: Data) -> None:
    """Check that the user's file of a run has not changed since the run began.

    Raises:
        ValueError: the file has changed since the run began.
    """
    reason = why_changed(read_data_state(run_dir), data.state)
    if reason is not None:
        raise ValueError(
            f"train: {run_dir} started with another file: {reason}; restore the old one, or choose another --run-dir"
        )


def write_data_state(run_dir: Path, data: Data) -> None:
    """Write the parts of the data that a finished run requires to the run directory."""
    for name, content in {DESCRIPTION: describe(data), **data.state}.items():
        path = RunDir(run_dir).data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)


def read_data_state(run_dir: Path) -> dict[str, bytes]:
    """Read the files of `write_data_state` by name; empty if there are none."""
    folder = RunDir(run_dir).data
    return {path.name: path.read_bytes() for path in sorted(folder.glob("[!.]*")) if path.is_file()}


def write_pictures(run_dir: Path, model: nn.Module, data: Data, seed: int, say: Callable[[str], None]) -> None:
    """Write what people look at: curves, latents of an encoder, reconstructions and samples as the kind shows them.

    A picture that cannot be drawn is one line, and the other pictures are still drawn: the results of the run are
    already written, and its model may be a user's whose methods return something else.

    Args:
        run_dir: the run directory.
        model: the trained model.
        data: the data of the run.
        seed: the seed of the run.
        say: prints a line.
    """
    paths = RunDir(run_dir)
    able = AnyModel(model)
    suffix = figures.find_renderer(data).suffix
    reconstructions, samples = paths.examples("reconstructions", suffix), paths.examples("samples", suffix)
    pictures: list[tuple[Path, Callable[[Path], None]]] = [
        (paths.curves, lambda path: figures.save_curves(path, paths.metrics, title=data.name))
    ]
    if able.can("encode"):
        pictures.append((paths.latents, lambda path: write_latents(path, model, data, seed)))
    if able.can("reconstruct"):
        pictures.append((reconstructions, lambda path: write_reconstructions(path, model, data, num=24, seed=seed)))
    if able.can("sample"):
        pictures.append((samples, lambda path: write_samples(path, model, data, num=64, seed=seed)))
    for path, write in pictures:
        try:
            write(path)
        except Exception as error:  # noqa: BLE001  it is printed
            say(f"{path.name} is not written ({type(error).__name__}: {' '.join(str(error).split())[:_MAX_REASON]})")


def write_latents(path: Path, model: nn.Module, data: Data, seed: int) -> None:
    """Draw the mean latents of the first test examples; nothing for a model whose latents have no dimensions."""
    means, labels = latents_of_test_set(model, data, seed, limit=_MAX_LATENTS)
    if means.shape[1] > 0:
        figures.save_latents(path, means, labels, data.label_names, title=data.name)


def write_reconstructions(path: Path, model: nn.Module, data: Data, *, num: int, seed: int) -> None:
    """Write the first ``num`` test examples and their reconstructions.

    Raises:
        ValueError: the model does not reconstruct.
    """
    batch = first_examples(data, data.test, num, seed, device_of(model))
    reconstructions = AnyModel(model).reconstruct(batch)
    title = f"{data.name}: reconstructions"
    figures.find_renderer(data).write_pairs(path, batch.target, reconstructions, data, title=title)


def write_samples(path: Path, model: nn.Module, data: Data, *, num: int, seed: int) -> None:
    """Write ``num`` samples from the prior, cycling through the conditions; they depend on the seed only.

    Raises:
        ValueError: the model does not sample.
    """
    device = device_of(model)
    given = {} if data.conditions is None else {"condition": data.conditions.vectors(num).to(device)}
    samples = AnyModel(model).sample(num, noise_key(seed, device=device), **given)
    title = f"{data.name}: samples from the prior"
    figures.find_renderer(data).write_examples(path, samples, data, title=title)


def first_examples(data: Data, source: Source, num: int, seed: int, device: torch.device) -> Batch:
    """Return the first ``num`` examples of a source, as evaluation reads them."""
    if num < 1:
        raise ValueError(f"num must be at least 1, got {num}")
    batches = evaluation_batches(source, data.preprocess, batch_size=min(num, len(source)), seed=seed, device=device)
    return next(iter(batches)).batch


@torch.no_grad()
def latents_of_test_set(model: nn.Module, data: Data, seed: int, *, limit: int) -> tuple[Tensor, Tensor | None]:
    """Return posterior means [N, D] of the first ``limit`` test examples, and their labels [N] or None."""
    size = min(limit, len(data.test), _ENCODED_AT_A_TIME)
    batches = evaluation_batches(data.test, data.preprocess, batch_size=size, seed=seed, device=device_of(model))
    able = AnyModel(model)
    found = [mean_of(able.encode(micro.batch)) for micro in islice(batches, -(-limit // size))]
    means = torch.cat(found).flatten(1)[:limit]
    labels = data.test.labels
    return means, None if labels is None else labels[: len(means)]


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the model's parameters."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
