"""Measure a case and its baselines interleaved call by call, so that a machine's noise affects all of them equally."""

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
_SAMPLE_S = 1e-3  # a sample takes about this long: short calls are timed in batches


@dataclass(frozen=True, kw_only=True)
class Case:
    """A benchmark case: several implementations of one computation, and the memory traffic of an ideal one."""

    operator: str
    """Name of the operator."""
    part: str
    """``forward``, ``backward``, ``forward+backward`` or ``noise``."""
    shape: tuple[int, ...]
    """Shape of the problem."""
    dtype: torch.dtype
    """Type of the inputs."""
    device: torch.device
    """Device of the inputs."""
    variant: str = ""
    """Variant of the operator."""
    calls: Mapping[str, Call]
    """Implementations by name. OURS is one of them; LIMIT moves memory with almost no computation."""
    elements: int
    """Number of latents, pixels or counts."""
    num_bytes: int
    """Bytes that an ideal implementation reads and writes."""
    limit_bytes: int
    """Bytes that the LIMIT call reads and writes."""
    equal: tuple[int, ...] = ()
    """Indices of the results in which OURS and EAGER agree, because they do not depend on the noise."""

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return " ".join(filter(None, (self.operator, self.variant, self.part, shape, str(self.dtype).split(".")[1])))


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The duration of a call: percentiles over samples."""

    p20_us: float
    """20th percentile in microseconds."""
    p50_us: float
    """Median in microseconds."""
    p80_us: float
    """80th percentile in microseconds."""
    num_calls: int
    """Total number of timed calls."""
    peak_mib: float | None = None
    """Peak device memory of the call in addition to its inputs; None on the CPU."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """The measurements of a case."""

    case: Case
    """The case."""
    timings: Mapping[str, Timing]
    """Durations of the case's calls by name."""

    def speedup(self, over: str) -> float:
        """The other call's median time divided by ours."""
        return self.timings[over].p50_us / self.timings[OURS].p50_us

    def gb_per_s(self, name: str = OURS) -> float:
        """Memory traffic of an ideal implementation divided by the call's time, in 10^9 bytes per second."""
        num_bytes = self.case.limit_bytes if name == LIMIT else self.case.num_bytes
        return num_bytes / self.timings[name].p50_us / 1e3

    def elements_per_s(self, name: str = OURS) -> float:
        """Latents, pixels or counts per second."""
        return self.case.elements / self.timings[name].p50_us * 1e6

    def share_of_limit(self, name: str = OURS) -> float:
        """The call's memory throughput relative to the LIMIT call's: 1 is the speed of memory."""
        return self.gb_per_s(name) / self.gb_per_s(LIMIT)


@dataclass(frozen=True)
class Bar:
    """A performance requirement of a case."""

    against: str
    """Name of the call to compare with; LIMIT compares memory throughput, all others compare time."""
    at_least: float
    """The required ratio."""
    aim: float | None = None
    """The desired ratio."""

    def measured(self, result: Result) -> float:
        """The measured ratio."""
        return result.share_of_limit() if self.against == LIMIT else result.speedup(self.against)


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A case with its requirements; the case is built just before it is measured."""

    name: str
    """Name of the case."""
    build: Callable[[], Case]
    """Builds the case."""
    bars: tuple[Bar, ...] = ()
    """Requirements of the case."""

    def __str__(self) -> str:
        return self.name


def measure(
    case: Case, *, budget_s: float = 2.0, min_rounds: int = 15, max_rounds: int = 200, warm_up_s: float = 0.0
) -> Result:
    """Time all calls of ``case`` in turn, after a warm-up, for about ``budget_s`` seconds.

    Args:
        case: the case to measure.
        budget_s: total time for all calls of the case in seconds, without the warm-up.
        min_rounds: smallest number of rounds, even if they exceed the budget.
        max_rounds: largest number of rounds.
        warm_up_s: time to run the calls before they are timed, in seconds, because an idle GPU has low clocks.
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
        # The order is shuffled so that the state of the caches does not always come from the same other call.
        for name in order.sample(names, len(names)):
            samples[name].append(time_calls(case.calls[name], bunch[name]) / bunch[name])
    timings = {name: _timing(samples[name], bunch[name], _peak_mib(case, name)) for name in names}
    return Result(case=case, timings=timings)


def keep_freed_memory() -> None:
    """Make the C library keep freed memory instead of returning it to the operating system.

    Otherwise, depending on the history of the heap, large results may need new pages, whose cost varies by a factor of
    ten over time. The setting exists in glibc only.
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
    """Seconds between two events on the device; the queue is empty before, so limiting launch overhead is included."""
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
