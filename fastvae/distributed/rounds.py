"""Chunks of work that the ranks compute in turns and rank 0 receives in order."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor

from fastvae.distributed.stop import StopRequest, exit_code
from fastvae.distributed.world import World, choose_device, enter_world


class Rounds:
    """Rounds in which every rank computes one chunk, while rank 0 receives the chunks of the previous ranks.

    The division into chunks is that of one process, so that the results are equal bit for bit on any number of ranks.
    No rank holds more than two chunks: a rank starts a chunk when rank 0 has received its last but one.

    Args:
        world: the ranks, inside of `enter_world`.
        stop: whether a signal ends the work; exchanged in every round.
    """

    def __init__(self, world: World | None = None, stop: StopRequest | None = None) -> None:
        self._world = World() if world is None else world
        self._stop = StopRequest(self._world) if stop is None else stop

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which receives all chunks."""
        return self._world.is_main

    def in_order(
        self, num_chunks: int, compute: Callable[[int], Mapping[str, Tensor]]
    ) -> Iterator[Mapping[str, Tensor]]:
        """Yield all chunks in order, on the CPU; on ranks other than 0 compute and send, and yield nothing.

        All ranks call this alike, and iterate to the end.

        Args:
            num_chunks: number of chunks on all ranks together.
            compute: returns the tensors of a chunk by its number.

        Raises:
            SystemExit: a rank received a stop signal; all ranks raise in the same round.
        """
        size, rank = self._world.world_size, self._world.rank
        sent = _Sent()
        for first in range(0, num_chunks, size):
            self._stop.begin()
            mine = _on_cpu(compute(first + rank)) if first + rank < num_chunks else None
            self._end_round()
            if not self.is_main:
                sent.add(mine)
                continue
            assert mine is not None
            yield mine
            for source in range(1, min(size, num_chunks - first)):
                yield _receive(source)
        sent.wait()

    def _end_round(self) -> None:
        number, _ = self._stop.end()
        if number is not None:
            if self.is_main:
                text = f"fastvae: {signal.Signals(number).name}: stopped; no file was written"
                print(text, file=sys.stderr, flush=True)
            raise SystemExit(exit_code(number))


@contextmanager
def enter_rounds(device: str = "auto", *, timeout_s: float = 600.0) -> Iterator[tuple[World, Rounds]]:
    """Context with the ranks that a launcher started and their rounds; see `enter_world`.

    A process that neither a launcher nor srun started is alone, also in a Slurm job of several tasks.

    Raises:
        ValueError: srun started several processes that no launcher connects.
    """
    if not {"RANK", "WORLD_SIZE", "SLURM_STEP_NUM_TASKS"} & os.environ.keys():
        world = World(device=choose_device(device, 0))
        yield world, Rounds(world)
        return
    with enter_world(device, timeout_s=timeout_s) as world:
        stop = StopRequest(world, kept="no file was written")
        if world.world_size == 1:  # signals then act as in any program
            yield world, Rounds(world, stop)
            return
        with stop.listening():
            yield world, Rounds(world, stop)


class _Sent:
    """The chunk that is being sent to rank 0, while the next one is computed."""

    def __init__(self) -> None:
        self._pending: list[tuple[dist.Work, Tensor]] = []

    def add(self, chunk: Mapping[str, Tensor] | None) -> None:
        """Send a chunk, after the previous one; None sends nothing."""
        self.wait()
        if chunk is not None:
            payload = torch.frombuffer(bytearray(safetensors.torch.save(dict(chunk))), dtype=torch.uint8)
            for part in (torch.tensor([payload.numel()]), payload):
                work = dist.isend(part, dst=0)
                assert work is not None  # this rank is in the group
                self._pending.append((work, part))

    def wait(self) -> None:
        """Wait until rank 0 has received everything."""
        for work, _ in self._pending:
            work.wait()
        self._pending.clear()


def _receive(source: int) -> Mapping[str, Tensor]:
    size = torch.zeros(1, dtype=torch.int64)
    dist.recv(size, src=source)
    payload = torch.empty(int(size), dtype=torch.uint8)
    dist.recv(payload, src=source)
    return safetensors.torch.load(payload.numpy().tobytes())


def _on_cpu(chunk: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, each with memory of its own, as safetensors requires."""
    return {name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in chunk.items()}
