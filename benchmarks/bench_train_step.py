"""Whole training steps: our trainer compared with the usual training loops and with the matrix products alone."""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from train_step_contenders import (
    BATCH,
    Contender,
    data_loader_loop,
    eager_loop,
    floor,
    has_pythae,
    our_trainer,
    pythae_trainer,
)
from train_step_networks import NETWORKS, Network

from fastvae.bench import options_parser, report, this_machine
from fastvae.data.pixels.mnist import MNIST, load_published
from fastvae.train.matmul import matmul_library

OURS, COMPILED, EAGER, FLOOR = "fastvae.train", "fastvae.train, compiled", "eager loop", "matrix products"
PYTHAE, CAPTURED = "pythae", "fastvae.train, captured"
BEST_FLOOR = "matrix products, oneDNN"  # if oneDNN is faster than PyTorch's default
# (network, contender, baseline, smallest ratio): requirements for the textbook network
BARS = (
    ("textbook", OURS, PYTHAE, 2.0),
    ("textbook", COMPILED, FLOOR, 0.75),
    ("textbook", OURS, FLOOR, 0.75),
    ("textbook", OURS, BEST_FLOOR, 0.75),
    ("textbook", CAPTURED, EAGER, 5.0),  # CUDA: the whole step as one CUDA graph
)


def load_images() -> tuple[Tensor, str]:
    """MNIST's training images [N, 1, 28, 28] uint8, or random images if MNIST is not available, and their name."""
    try:
        return load_published(MNIST, download=False)[0][torch.arange(MNIST.num_train)], "MNIST"
    except ValueError:
        generator = torch.Generator().manual_seed(0)
        return torch.randint(256, (12_800, 1, 28, 28), dtype=torch.uint8, generator=generator), "random images"


def build_contenders(
    network: Network, images: Tensor, *, steps: int, with_compiled: bool, device: str = "cpu"
) -> dict[str, Contender]:
    """All contenders for this network by name."""
    found: dict[str, Contender] = {
        OURS: our_trainer(network, images, compiled=False, device=device),
        EAGER: eager_loop(network, images, compiled=False, device=device),
        FLOOR: floor(network, images, device=device),
    }
    with matmul_library("auto", network.eager(), BATCH, torch.device(device)) as library:
        if library == "oneDNN":
            found[BEST_FLOOR] = floor(network, images, device=device, library="auto")
    if with_compiled:
        found[COMPILED] = our_trainer(network, images, compiled=True, device=device)
        found["eager loop, compiled"] = eager_loop(network, images, compiled=True, device=device)
    if device == "cuda":
        found[CAPTURED] = our_trainer(network, images, compiled=False, device=device, capture=True)
    if network.name == "textbook" and device == "cpu":
        found["Dataset and DataLoader"] = data_loader_loop(network, images)
        if has_pythae():
            found[PYTHAE] = pythae_trainer(images, steps)
    return found


def race(contenders: Mapping[str, Contender], *, steps: int, rounds: int) -> dict[str, list[float]]:
    """Measure the images per second of each contender in each round, in which they run in shuffled order."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for turn, name, rate in turns(contenders, steps=steps, rounds=rounds):
        if turn > 0:  # the first round compiles and warms up
            rates[name].append(rate)
    return rates


def turns(contenders: Mapping[str, Contender], *, steps: int, rounds: int) -> Iterator[tuple[int, str, float]]:
    """Run the contenders and yield (round, contender, images per second) after each turn; round 0 is the warm-up."""
    order = random.Random(0)
    for turn in range(rounds + 1):
        for name in order.sample(list(contenders), len(contenders)):
            yield turn, name, contenders[name](steps)


def rows_of(network: Network, rates: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """A record per contender."""
    median = {name: statistics.median(values) for name, values in rates.items()}
    return [
        {
            "network": network.name,
            "contender": name,
            "p20_images_per_s": sorted(values)[len(values) // 5],
            "p50_images_per_s": median[name],
            "p80_images_per_s": sorted(values)[-1 - len(values) // 5],
            "rounds": len(values),
            "share_of_matrix_products": median[name] / median[FLOOR],
            "times_eager_loop": median[name] / median[EAGER],
        }
        for name, values in sorted(rates.items(), key=lambda item: -median[item[0]])
    ]


def rate_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format the records as a Markdown table."""
    lines = []
    for row in rows:
        rates = [f"{row[f'p{p}_images_per_s']:,.0f}" for p in (20, 50, 80)]
        shares = [f"{row['share_of_matrix_products']:.0%}", f"{row['times_eager_loop']:.2f}"]
        lines.append([row["network"], row["contender"], *rates, *shares])
    header = ["network", "contender", "20 % images/s", "50 %", "80 %", "of the matrix products", "times the eager loop"]
    return report.markdown(header, lines)


def bar_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table of the requirements and the measured values."""
    rate = {(row["network"], row["contender"]): row["p50_images_per_s"] for row in rows}
    lines = []
    for network, ours, baseline, at_least in BARS:
        if (network, ours) in rate and (network, baseline) in rate:
            value = rate[network, ours] / rate[network, baseline]
            verdict = "reached" if value >= at_least else "MISSED"
            lines.append([f"{network}: {ours}", f">= {at_least:.2f} x {baseline}", f"{value:.2f}", verdict])
    return report.markdown(["case", "bar", "measured", ""], lines) if lines else ""


def step_notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Notes on how a step's time is divided between matrix products on oneDNN, which the trainer uses, and the rest."""
    ms = {(row["network"], row["contender"]): 1e3 * BATCH / row["p50_images_per_s"] for row in rows}
    return [
        f"{network}: a step of {OURS} takes {step:.2f} ms; its matrix products alone take {ms[network, FLOOR]:.2f} ms "
        f"with PyTorch's default library and {ms[network, BEST_FLOOR]:.2f} ms with oneDNN, which the trainer uses. The "
        f"other {step - ms[network, BEST_FLOOR]:.2f} ms are the optimizer, sampling and losses, data loading, and the "
        "host's overhead per call"
        for (network, contender), step in ms.items()
        if contender == OURS and (network, BEST_FLOOR) in ms
    ]


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_train_step(network: Network, benchmark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FASTVAE_DATA", str(tmp_path))  # use random images, which are quick and always available
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys.modules[__name__], "has_pythae", lambda: False)
    parameters = [sum(p.numel() for p in build().parameters()) for build in (network.eager, network.ours)]
    assert parameters[0] == parameters[1]
    contenders = build_contenders(network, load_images()[0], steps=1, with_compiled=False)
    rates = benchmark(race, contenders, steps=1, rounds=1)
    rows = rows_of(network, rates)
    benchmark.extra_info |= {row["contender"]: row["p50_images_per_s"] for row in rows}
    assert all(row["p50_images_per_s"] > 0 for row in rows)
    assert {OURS, EAGER, FLOOR} <= {row["contender"] for row in rows}


def main() -> int:
    description = "Compare whole training steps with their baselines."
    parser = options_parser(description, Path(__file__).parent / "results")
    parser.add_argument("--steps", type=int, help=f"steps of {BATCH} images per round; by default 150, 50 and 40")
    parser.add_argument("--rounds", type=int, default=4, help="number of measured rounds, after one warm-up round")
    parser.add_argument("--networks", nargs="*", default=[network.name for network in NETWORKS])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="omit torch.compile")
    options = parser.parse_args()
    images, which = load_images()
    notes = [f"{which}, {len(images):,} images, batch {BATCH}, {options.rounds} rounds"]
    if not has_pythae():
        notes.append("pythae is omitted, because it is not installed: pip install pythae==0.1.2 --target FOLDER")
    rows = []
    for network in NETWORKS:
        if network.name not in options.networks:
            continue
        steps = options.steps or network.steps
        notes.append(f"{network.name}: {network.description}; {steps} steps per round")
        print(f"measuring {network.name}", file=sys.stderr)
        torch.compiler.reset()
        contenders = build_contenders(
            network, images, steps=steps, with_compiled=options.compile, device=options.device
        )
        rows += rows_of(network, race(contenders, steps=steps, rounds=options.rounds))
    notes += step_notes(rows)
    machine = this_machine(options.device)
    tables = [bar_table(rows), rate_table(rows), "\n".join(f"- {note}" for note in notes)]
    print("\n\n".join(filter(None, tables)))
    if options.out is not None:
        name = "train_step"
        path = report.write_page(options.out, name, machine, tables, "Made by `python benchmarks/bench_train_step.py`.")
        report.write_rows(path.with_suffix(".csv"), rows, machine)
        print(f"\nwritten: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
