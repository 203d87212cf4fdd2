"""A cost model of a training step on N ranks: sent bytes, latency, bandwidth, and overlap with computation.

Assumptions, which the report repeats:

- Collectives are ring algorithms: for an all-reduce, each rank sends 2 (N - 1) / N of a tensor in 2 (N - 1) sequential
  messages; for an all-gather or a reduce-scatter, (N - 1) / N in N - 1 messages (Patarasuk and Yuan, JPDC 2009).
- gloo implements reduce-scatter by an all-reduce, which sends twice as much as NCCL's reduce-scatter.
- A message of n bytes takes latency + n / bandwidth, independently of other messages (Hockney, 1994). The core of the
  network is never the bottleneck, and all ranks are equally fast: no stragglers, no failures.
- Gradients and gathered weights are float32. fsdp and ZeRO 3 gather the weights in the forward and in the backward
  pass (Rajbhandari et al., SC 2020, section 7: 3 times the parameters, compared with 2 for the other strategies).
- The fraction of the communication that overlaps with computation on two ranks also overlaps on more ranks, if the
  backward pass, two thirds of the computation, is long enough.
- The host overhead of a strategy (hooks, copies, waiting for the other rank) is a constant time, which is fitted to
  the strong-scaling case of two ranks; the weak-scaling case then tests the model.
- Computation takes a constant time plus a time per example, fitted to one rank at two batch sizes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

FLOAT_BYTES = 4
BUCKET_BYTES = 25 * 2**20  # DDP's default
GATHERS = {"ddp": 0, "fsdp": 2, "deepspeed 1": 1, "deepspeed 2": 1, "deepspeed 3": 2}  # weight gathers per step
ASSUMPTIONS = tuple(
    " ".join(point.split()) for point in (__doc__ or "").partition("repeats:")[2].split("\n- ") if point.strip()
)


@dataclass(frozen=True)
class Network:
    """The network between two ranks."""

    name: str
    latency_s: float
    bytes_per_s: float
    reduce_scatter: bool = True  # False if the library implements reduce-scatter by an all-reduce, as gloo does


@dataclass(frozen=True)
class Computation:
    """The computation time of one rank's step."""

    constant_s: float
    per_example_s: float

    def seconds(self, examples: float) -> float:
        """The time for a batch of ``examples`` on the rank."""
        return self.constant_s + self.per_example_s * examples


@dataclass(frozen=True)
class Exchange:
    """The communication of a strategy in a step."""

    strategy: str
    num_parameters: int
    num_blocks: int = 1  # number of blocks that fsdp and ZeRO 3 gather separately

    def sent_bytes(self, ranks: int, network: Network) -> float:
        """The number of bytes that each rank sends."""
        share = (ranks - 1) / ranks
        gathers = GATHERS[self.strategy]
        passes = gathers + (1 if gathers and network.reduce_scatter else 2)  # an all-reduce is two passes
        return passes * share * FLOAT_BYTES * self.num_parameters

    def messages(self, ranks: int) -> int:
        """The number of sequential messages that each rank sends."""
        if GATHERS[self.strategy] == 2:
            return 3 * self.num_blocks * (ranks - 1)
        buckets = math.ceil(FLOAT_BYTES * self.num_parameters / BUCKET_BYTES)
        return buckets * 2 * (ranks - 1)

    def seconds(self, ranks: int, network: Network) -> float:
        """The time of the communication without overlap."""
        return self.messages(ranks) * network.latency_s + self.sent_bytes(ranks, network) / network.bytes_per_s


def step_seconds(
    computation: Computation,
    exchange: Exchange,
    network: Network,
    *,
    ranks: int,
    examples: float,
    hidden: float,
    overhead_s: float = 0.0,
) -> float:
    """The time of a step with ``examples`` on each rank; the fraction ``hidden`` of the communication can overlap."""
    own = computation.seconds(examples)
    if ranks == 1:
        return own
    together = exchange.seconds(ranks, network)
    return own + overhead_s + together - min(together * hidden, own * 2 / 3)


def fit_network(name: str, sizes: list[int], seconds: list[float]) -> Network:
    """Fit latency and bandwidth between two ranks to the times of the smallest and the largest all-reduce.

    An all-reduce between two ranks consists of 2 messages with half of the bytes each.
    """
    latency = seconds[0] / 2
    return Network(name, latency, sizes[-1] / max(seconds[-1] - 2 * latency, 1e-9), reduce_scatter=False)
