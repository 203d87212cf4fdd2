"""What a training step costs on N ranks: bytes on the wire, latency, bandwidth, and what hides behind computation.

Assumptions, which the report repeats:

- Ring collectives: a rank sends 2 (N - 1) / N of a tensor for an all-reduce, (N - 1) / N for an all-gather or a
  reduce-scatter, in 2 (N - 1) or N - 1 messages, one after the other (Patarasuk and Yuan, JPDC 2009).
- gloo has no reduce-scatter of its own, it all-reduces and so sends twice as much; NCCL has one.
- A message of n bytes takes latency + n / bandwidth, whoever else is sending (Hockney, 1994). The network's core is
  never the bottleneck, and all ranks are equally fast: no stragglers, no failures.
- Gradients, and weights that are gathered, are float32. fsdp and ZeRO 3 gather weights in forward and in backward
  (Rajbhandari et al., SC 2020, section 7: 3 times the parameters, against 2 for the others).
- Of the communication, the share that ran while something was computed on two ranks stays hidden on more, as long as
  the backward pass, two thirds of the computation, is long enough to hide it.
- What a strategy adds on the host (hooks, copies, waiting for the other rank) is a constant time, which is fitted on
  the strong-scaling case of two ranks; the weak-scaling case is then a check of the model.
- Computation takes a constant time and a time for each example, from one rank at two batch sizes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

FLOAT_BYTES = 4
BUCKET_BYTES = 25 * 2**20  # DDP's default
GATHERS = {"ddp": 0, "fsdp": 2, "deepspeed 1": 1, "deepspeed 2": 1, "deepspeed 3": 2}  # of the weights, in a step
ASSUMPTIONS = tuple(
    " ".join(point.split()) for point in (__doc__ or "").partition("repeats:")[2].split("\n- ") if point.strip()
)


@dataclass(frozen=True)
class Network:
    """What lies between two ranks."""

    name: str
    latency_s: float
    bytes_per_s: float
    reduce_scatter: bool = True  # whether its library has one; gloo does not


@dataclass(frozen=True)
class Computation:
    """One rank's own work in a step."""

    constant_s: float
    per_example_s: float

    def seconds(self, examples: float) -> float:
        """Of a batch of that many examples on the rank."""
        return self.constant_s + self.per_example_s * examples


@dataclass(frozen=True)
class Exchange:
    """What a strategy sends in a step."""

    strategy: str
    num_parameters: int
    num_blocks: int = 1  # that fsdp and ZeRO 3 gather one by one

    def sent_bytes(self, ranks: int, network: Network) -> float:
        """Bytes that each rank sends."""
        share = (ranks - 1) / ranks
        gathers = GATHERS[self.strategy]
        passes = gathers + (1 if gathers and network.reduce_scatter else 2)  # an all-reduce scatters and gathers
        return passes * share * FLOAT_BYTES * self.num_parameters

    def messages(self, ranks: int) -> int:
        """Messages that each rank sends, one after the other."""
        if GATHERS[self.strategy] == 2:
            return 3 * self.num_blocks * (ranks - 1)
        buckets = math.ceil(FLOAT_BYTES * self.num_parameters / BUCKET_BYTES)
        return buckets * 2 * (ranks - 1)

    def seconds(self, ranks: int, network: Network) -> float:
        """Time of the exchange alone."""
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
    """A whole step with ``examples`` on each rank, of whose exchange the share ``hidden`` can hide."""
    own = computation.seconds(examples)
    if ranks == 1:
        return own
    together = exchange.seconds(ranks, network)
    return own + overhead_s + together - min(together * hidden, own * 2 / 3)


def fit_network(name: str, sizes: list[int], seconds: list[float]) -> Network:
    """Latency and bandwidth of a ring of two ranks, from all-reduces of the smallest and the largest size.

    Between two ranks an all-reduce is 2 messages of half the bytes each.
    """
    latency = seconds[0] / 2
    return Network(name, latency, sizes[-1] / max(seconds[-1] - 2 * latency, 1e-9), reduce_scatter=False)
