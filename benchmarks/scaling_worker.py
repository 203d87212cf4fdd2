"""One rank of bench_scaling.py: training steps that are timed, and some that run under torch.profiler."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.profiler import ProfilerActivity, profile

from fastvae.data import Loader, as_data
from fastvae.distributed import DeepSpeedConfig, StrategyOptions, World, build_strategy, enter_world
from fastvae.distributed.fsdp import blocks
from fastvae.models import ModelConfig, build_model
from fastvae.train import TrainConfig
from fastvae.train.optim import build_optimizer
from fastvae.train.step import train_step

Interval = tuple[float, float]
WARM_UP = 3
ALL_REDUCE_BYTES = (4, 2**16, 2**20, 2**24)


def sent_bytes() -> int:
    """The number of bytes that this process has written so far, mostly to sockets (Linux only)."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar"))


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """Merge intervals so that they do not overlap."""
    joined: list[Interval] = []
    for start, stop in sorted(intervals):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined


def length(intervals: Iterable[Interval]) -> float:
    return sum(stop - start for start, stop in intervals)


def intersection(one: list[Interval], other: list[Interval]) -> float:
    """The total length of the intersection of two unions of intervals."""
    return length(one) + length(other) - length(union([*one, *other]))


def parts_of(profiler: profile, steps: int) -> dict[str, float]:
    """Milliseconds per step of computation, of communication, and of both at once: unions of intervals over threads."""
    events = [(event.name, (event.time_range.start, event.time_range.end)) for event in profiler.events() or []]
    computing = union(span for name, span in events if name.startswith(("aten::", "fastvae::")))
    talking = union(span for name, span in events if name.startswith(("gloo:", "nccl:")))
    scale = 1e3 * steps  # the profiler counts microseconds
    return {
        "computation_ms": length(computing) / scale,
        "communication_ms": length(talking) / scale,
        "overlap_ms": intersection(computing, talking) / scale,
    }


def measure(world: World, job: dict[str, Any]) -> dict[str, Any]:
    """Measure one strategy at one batch size."""
    stage = job["strategy"].partition(" ")[2]
    deepspeed = DeepSpeedConfig(stage=int(stage)) if stage else DeepSpeedConfig()
    config = TrainConfig(steps=100, global_batch_size=job["global_batch_size"], deepspeed=deepspeed)
    pixels = torch.randint(256, (4096, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = as_data(pixels, pixels[:256])
    width = job["width"]
    model = build_model(ModelConfig(hidden_dim=(width, width), latent_dim=32), data.event_shape)
    options = StrategyOptions(deepspeed=deepspeed)
    strategy = build_strategy(job["strategy"].partition(" ")[0], world, options)
    strategy.setup(model, partial(build_optimizer, config))
    place = {"rank": world.rank, "world_size": world.world_size}
    loader = Loader(data.train, data.preprocess, global_batch_size=config.global_batch_size, seed=0, **place)
    number = iter(range(10_000))

    def step() -> None:
        train_step(strategy, loader.load(next(number)), config, 1.0)

    for _ in range(WARM_UP):
        step()
    times, sent = [], sent_bytes()
    for _ in range(job["steps"]):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    sent = sent_bytes() - sent
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(job["profiled"]):
            step()
    parts = parts_of(profiler, job["profiled"])
    cuts = statistics.quantiles(times, n=10, method="inclusive") if len(times) > 1 else [times[0]] * 9
    counts = {"num_parameters": sum(p.numel() for p in model.parameters()), "num_blocks": len(blocks(model))}
    strategy.close()
    percentiles = {f"p{p}_ms": 1e3 * cuts[p // 10 - 1] for p in (20, 50, 80)}
    return {**job, "ranks": world.world_size, **percentiles, **parts, **counts, "sent_bytes": sent / job["steps"]}


def measure_link(repeats: int) -> dict[str, list[float]]:
    """Measure the median time of an all-reduce of each size in seconds."""
    seconds = []
    for size in ALL_REDUCE_BYTES:
        tensor, times = torch.zeros(size // 4), []
        for _ in range(repeats):
            start = time.perf_counter()
            dist.all_reduce(tensor)
            times.append(time.perf_counter() - start)
        seconds.append(statistics.median(times))
    return {"bytes": list(ALL_REDUCE_BYTES), "seconds": seconds}


def main(path: Path) -> None:
    request = json.loads(path.read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    with enter_world("cpu") as world:
        link = measure_link(request["repeats"]) if world.world_size > 1 else None
        rows = [measure(world, job) for job in request["jobs"]]
        if world.is_main:
            path.with_suffix(".out.json").write_text(json.dumps({"rows": rows, "link": link}), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
