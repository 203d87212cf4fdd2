"""Measure a case beside its baselines, call by call in turn, so that a noisy machine is as unfair to all of them."""

from __future__ import annotations

import ctypes
import itertools
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Call = Callable[[], tuple[Tensor, ...]]
OURS, EAGER, COMPILED, LIMIT = "fastvae", "eager", "compiled", "limit"

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
_SAMPLE_S = 1e-3  # a sample is as many calls as last about this long: short calls are timed in bunches


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to measure: several ways to compute the same, and how much memory a perfect one would move."""

    operator: str
    part: str  # "forward", "backward", "forward+backward" or "noise"
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    variant: str = ""
    calls: Mapping[str, Call]  # by name; OURS is among them, and LIMIT moves memory and computes next to nothing
    elements: int
    num_bytes: int  # read and written by a perfect implementation
    limit_bytes: int  # read and written by the LIMIT call
    equal: tuple[int, ...] = ()  # positions of results in which OURS and EAGER agree: those without noise

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return " ".join(filter(None, (self.operator, self.variant, self.part, shape, str(self.dtype).split(".")[1])))


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What a call took: percentiles over the samples, and how many calls they are made of."""

    p20_us: float
    p50_us: float
    p80_us: float
    num_calls: int
    peak_mib: float | None = None  # device memory that the call takes at its height, beside its inputs; CUDA only


@dataclass(frozen=True, kw_only=True)
class Result:
    """A measured case."""

    case: Case
    timings: Mapping[str, Timing]

    def speedup(self, over: str) -> float:
        """How many times as long as ours the other call took."""
        return self.timings[over].p50_us / self.timings[OURS].p50_us

    def gb_per_s(self, name: str = OURS) -> float:
        """10^9 bytes a second of what a perfect implementation has to move."""
        num_bytes = self.case.limit_bytes if name == LIMIT else self.case.num_bytes
        return num_bytes / self.timings[name].p50_us / 1e3

    def elements_per_s(self, name: str = OURS) -> float:
        """Latents, pixels or counts a second."""
        return self.case.elements / self.timings[name].p50_us * 1e6

    def share_of_limit(self, name: str = OURS) -> float:
        """The call's memory traffic against that of the LIMIT call: 1 is as fast as memory is."""
        return self.gb_per_s(name) / self.gb_per_s(LIMIT)


@dataclass(frozen=True)
class Bar:
    """What a case has to reach."""

    against: str  # the name of a call; LIMIT compares memory traffic, the others time
    at_least: float
    aim: float | None = None  # what we would like

    def measured(self, result: Result) -> float:
        """The figure that is held against the bar."""
        return result.share_of_limit() if self.against == LIMIT else result.speedup(self.against)


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A case, built when it is its turn, and its bars."""

    name: str
    build: Callable[[], Case]
    bars: tuple[Bar, ...] = ()

    def __str__(self) -> str:
        return self.name


def measure(
    case: Case, *, budget_s: float = 2.0, min_rounds: int = 15, max_rounds: int = 200, warm_up_s: float = 0.0
) -> Result:
    """Time all calls of ``case`` in turn, after a warm-up, for about ``budget_s`` seconds.

    Args:
        case: what to measure.
        budget_s: the time for all calls of the case together, warm-up not counted.
        min_rounds: turns that are taken however long they last.
        max_rounds: turns that are enough.
        warm_up_s: how long the calls run in turn before the first is timed: an idle GPU has slow clocks.
    """
    keep_freed_memory()
    time_calls = _time_on_cuda if case.device.type == "cuda" else _time_on_cpu
    warm = time.perf_counter() + warm_up_s
    while time.perf_counter() < warm:
        for call in case.calls.values():
            time_calls(call, 1)
    bunch = {name: _calls_per_sample(call, time_calls) for name, call in case.calls.items()}
    samples: dict[str, list[float]] = {name: [] for name in case.calls}
    names, order, end = list(case.calls), random.Random(0), time.perf_counter() + budget_s
    for turn in itertools.count():
        if turn >= max_rounds or (turn >= min_rounds and time.perf_counter() > end):
            break
        # In shuffled order: no call always finds the caches as the same other one left them.
        for name in order.sample(names, len(names)):
            samples[name].append(time_calls(case.calls[name], bunch[name]) / bunch[name])
    timings = {name: _timing(samples[name], bunch[name], _peak_mib(case, name)) for name in names}
    return Result(case=case, timings=timings)


def keep_freed_memory() -> None:
    """Have the C library keep what calls free, for all of them alike, from here on.

    Else large results come from fresh pages or from used ones, by the history of the heap, and the price of a fresh
    page is the operating system's, which from minute to minute may be ten times itself. Only glibc has the setting.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _timing(samples_s: list[float], bunch: int, peak_mib: float | None) -> Timing:
    p20, p50, p80 = (1e6 * value for value in _percentiles(samples_s))
    return Timing(p20_us=p20, p50_us=p50, p80_us=p80, num_calls=bunch * len(samples_s), peak_mib=peak_mib)


def _percentiles(samples: list[float]) -> tuple[float, float, float]:
    if len(samples) == 1:
        return samples[0], samples[0], samples[0]
    fifths = statistics.quantiles(samples, n=5, method="inclusive")
    return fifths[0], statistics.median(samples), fifths[3]


def _calls_per_sample(call: Call, time_calls: Callable[[Call, int], float]) -> int:
    for _ in range(3):  # the first calls compile, allocate and load
        time_calls(call, 1)
    return max(1, round(_SAMPLE_S / max(1e-9, min(time_calls(call, 1) for _ in range(3)))))


def _time_on_cpu(call: Call, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return time.perf_counter() - start


def _time_on_cuda(call: Call, count: int) -> float:
    """Seconds between two events on the device; the queue is empty before, so launches are paid where they bind."""
    before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    before.record()
    for _ in range(count):
        call()
    after.record()
    after.synchronize()
    return before.elapsed_time(after) / 1e3


def _peak_mib(case: Case, name: str) -> float | None:
    if case.device.type != "cuda":
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    case.calls[name]()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - held) / 2**20
