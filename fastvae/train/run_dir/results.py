"""What a finished run leaves for people: its weights, and pictures of what it learned."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from fastvae import figures
from fastvae.data import DESCRIPTION, Data, Source, describe, evaluation_batches
from fastvae.data.stamp import why_changed
from fastvae.generative import AnyModel, mean_of
from fastvae.ops import noise_key
from fastvae.records import Batch
from fastvae.train.run_dir.files import write_atomic
from fastvae.train.run_dir.run_dir import RunDir

_MAX_LATENTS = 5000  # points of the latent picture: more would only cover each other
_MAX_REASON = 300  # characters
_ENCODED_AT_A_TIME = 500  # examples: bounds the memory of a deep encoder


def check_same_data(run_dir: Path, data: Data) -> None:
    """Refuse to go on where a run's own file is another by now: a run is the same before and after a crash.

    Raises:
        ValueError: the file has changed since the run began.
    """
    reason = why_changed(read_data_state(run_dir), data.state)
    if reason is not None:
        raise ValueError(
            f"train: {run_dir} began with another file: {reason}; put the old one back, or choose another --run-dir"
        )


def write_data_state(run_dir: Path, data: Data) -> None:
    """Keep what a finished run needs of its data in the run directory."""
    for name, content in {DESCRIPTION: describe(data), **data.state}.items():
        path = RunDir(run_dir).data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)


def read_data_state(run_dir: Path) -> dict[str, bytes]:
    """What `write_data_state` kept, by name; nothing if it kept nothing."""
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
    """Show the first ``num`` test examples beside what the model makes of them.

    Raises:
        ValueError: the model reconstructs nothing.
    """
    batch = first_examples(data, data.test, num, seed, device_of(model))
    reconstructions = AnyModel(model).reconstruct(batch)
    title = f"{data.name}: reconstructions"
    figures.find_renderer(data).write_pairs(path, batch.target, reconstructions, data, title=title)


def write_samples(path: Path, model: nn.Module, data: Data, *, num: int, seed: int) -> None:
    """Show ``num`` new examples from the prior, their conditions in turn; the same seed gives the same ones.

    Raises:
        ValueError: the model draws nothing.
    """
    device = device_of(model)
    given = {} if data.conditions is None else {"condition": data.conditions.vectors(num).to(device)}
    samples = AnyModel(model).sample(num, noise_key(seed, device=device), **given)
    title = f"{data.name}: samples from the prior"
    figures.find_renderer(data).write_examples(path, samples, data, title=title)


def first_examples(data: Data, source: Source, num: int, seed: int, device: torch.device) -> Batch:
    """The first ``num`` examples of a source, as evaluation sees them."""
    if num < 1:
        raise ValueError(f"num must be at least 1, got {num}")
    batches = evaluation_batches(source, data.preprocess, batch_size=min(num, len(source)), seed=seed, device=device)
    return next(iter(batches)).batch


@torch.no_grad()
def latents_of_test_set(model: nn.Module, data: Data, seed: int, *, limit: int) -> tuple[Tensor, Tensor | None]:
    """Posterior means of the first ``limit`` test examples, [N, D], and their labels [N] where there are any."""
    size = min(limit, len(data.test), _ENCODED_AT_A_TIME)
    batches = evaluation_batches(data.test, data.preprocess, batch_size=size, seed=seed, device=device_of(model))
    able = AnyModel(model)
    found = [mean_of(able.encode(micro.batch)) for micro in islice(batches, -(-limit // size))]
    means = torch.cat(found).flatten(1)[:limit]
    labels = data.test.labels
    return means, None if labels is None else labels[: len(means)]


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters are."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
