"""A large recommender: one million users, 100 000 items and 100 interactions per user on one machine.

    python benchmarks/app_recommendation_scale.py [--users 1000000] [--items 100000] [--train-seconds 60]

The interactions are synthetic (a steep distribution of item popularity, and users with 50 tastes) and are written to an
.npz of compressed rows in the format of `scipy.sparse.save_npz`. The file is read as by `--data.path`: 500 users are
held out, and the dense matrix of users and items is never built. Then all training users are read by the loader, all
are encoded, and Mult-VAE (items-600-200-600-items) is trained on batches of 500 users for the given time. The reported
memory is the peak of the process, including the generation of the file.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from applications import Figure, figure, write_figures
from torch import Tensor

from fastvae.data import Data, DataConfig, Loader, build_data
from fastvae.data.interactions.recommendation import InteractionsConfig
from fastvae.models import VAE, ModelInputs, build_model
from fastvae.objective import elbo
from fastvae.recipes import find_recipe
from fastvae.train.matmul import matmul_library

PER_USER, TASTES = 100, 50
HELD_OUT = 500  # number of held-out users
MAX_GIB = 8.0
_PIECE = 20_000  # number of users that are generated at a time


def write_interactions(path: Path, num_users: int, num_items: int, seed: int = 0) -> None:
    """Write interactions: each user has one item of each of 100 groups, from small groups of popular items to large
    groups of rare ones. In every second group, the item comes from the part that belongs to the user's taste.
    """
    shelves = np.arange(PER_USER + 1)
    edges = np.maximum(num_items * (shelves / PER_USER) ** 2.5, shelves).astype(np.int64)
    widths = np.diff(edges)
    rng = np.random.default_rng(seed)
    columns = np.empty(num_users * PER_USER, dtype=np.int32)
    for first in range(0, num_users, _PIECE):
        position = rng.random((min(_PIECE, num_users - first), PER_USER), dtype=np.float32)
        taste = rng.integers(0, TASTES, (len(position), 1))
        position[:, ::2] = (taste + position[:, ::2]) / TASTES
        items = np.minimum((position * widths).astype(np.int64), widths - 1) + edges[:-1]
        columns[first * PER_USER : (first + len(position)) * PER_USER] = items.ravel()
    np.savez(
        path,
        format=np.array(b"csr"),
        shape=np.array([num_users, num_items]),
        indptr=np.arange(0, len(columns) + 1, PER_USER),
        indices=columns,
        data=np.ones(len(columns), dtype=np.int8),
    )


def read_data(path: Path, num_users: int) -> Data:
    """The data of `fastvae train movielens-100k --data.path x.npz`, with 500 held-out users."""
    interactions = InteractionsConfig(test_share=HELD_OUT / num_users)
    return build_data(DataConfig(path=path, interactions=interactions))


def peak_gib() -> float:
    """The peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def batches_of(loader: Loader, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the counts and noise keys of ``steps`` steps."""
    for step in range(steps):
        micro = loader.load(step)[0]
        yield micro.batch.x, micro.key


def stream_users(loader: Loader, steps: int) -> float:
    """The time to read all users once in the order of training, in seconds."""
    began = time.perf_counter()
    read = sum(int(counts.shape[0]) for counts, _ in batches_of(loader, steps))
    assert read == steps * 500
    return time.perf_counter() - began


@torch.no_grad()
def encode_users(model: VAE, loader: Loader, steps: int) -> float:
    """The time to compute all users' posterior means, in seconds."""
    model.eval()
    began = time.perf_counter()
    for counts, _ in batches_of(loader, steps):
        assert bool(model.encode(counts).mu.isfinite().all())
    return time.perf_counter() - began


def train_users(model: VAE, loader: Loader, seconds: float, max_steps: int) -> tuple[int, float, float, float]:
    """Train and return the number of steps, the seconds, and the first and last loss in nats per user."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    losses, began = [], time.perf_counter()
    for step, (counts, key) in enumerate(batches_of(loader, max_steps)):
        loss = elbo(model(counts, key), min(0.2, step / 2000)).loss.mean()
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step == 0:
            began = time.perf_counter()  # the first step allocates memory and is excluded
        elif time.perf_counter() - began > seconds:
            break
    return len(losses) - 1, time.perf_counter() - began, losses[0], losses[-1]


def measure(options: argparse.Namespace) -> list[Figure]:
    """Measure all figures."""
    began, size = time.perf_counter(), f"{options.users:,} users x {options.items:,} items"
    recipe = find_recipe("movielens-100k")
    config = replace(recipe.model, hidden_dim=(600,), latent_dim=200)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "items.npz"
        write_interactions(path, options.users, options.items)
        data = read_data(path, options.users)
        loader = Loader(data.train, data.preprocess, global_batch_size=500, seed=0)
        steps = len(data.train) // 500
        model = build_model(config, ModelInputs(event_shape=data.event_shape))
        assert isinstance(model, VAE)
        read, encoded = stream_users(loader, steps), encode_users(model, loader, steps)
        with matmul_library("auto", model, 500, torch.device("cpu")):
            done, trained, first, last = train_users(model, loader, options.train_seconds, steps)
    common = {"seed": 0, "seconds": time.perf_counter() - began}
    per_second = 500 * done / trained
    trained_note = (
        f"{500 * done:,} users in {trained:.0f} s, an epoch would take {options.users / per_second / 60:.0f} minutes;"
        f" loss {first:.1f} -> {last:.1f} nats per user"
    )
    whole = f"all {500 * steps:,} training users, {torch.get_num_threads()} threads"
    return [
        figure("recommendation", f"{size}: loader, users/s", 500 * steps / read, note=whole, **common),
        figure("recommendation", f"{size}: encoder, users/s", 500 * steps / encoded, note=whole, **common),
        figure("recommendation", f"{size}: training, users/s", per_second, note=trained_note, **common),
        figure("recommendation", f"{size}: peak memory, GiB", peak_gib(), at_most=MAX_GIB, **common),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure users per second and memory of a large recommender.")
    parser.add_argument("--users", type=int, default=1_000_000, help="number of users, a multiple of 500")
    parser.add_argument("--items", type=int, default=100_000, help="number of items")
    parser.add_argument("--train-seconds", type=float, default=60.0, help="training time")
    parser.add_argument("--out", type=Path, help="file of the results; by default in benchmarks/results")
    write = parser.parse_args()
    write_figures("recommendation_scale", measure(write), write.out)


if __name__ == "__main__":
    main()
