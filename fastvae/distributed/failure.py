"""What a failure is, on which rank it happened first, and how every rank says so."""

from __future__ import annotations

import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")

# What PyTorch says where the fault is at the other end; gloo's errors are plain RuntimeErrors.
_PEER_ERRORS = ("gloo/transport", "Application timeout caused pair closure", "NCCL", "Connection closed by")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Where a run went wrong first."""

    rank: int
    """The rank that failed."""
    host: str
    """Its host."""
    reason: str
    """What happened, and what to look at."""
    reporter: int
    """The rank that shows the reason in full: the one that failed, or the first that noticed."""

    @property
    def where(self) -> str:
        """The rank and its host, as messages name it."""
        return f"rank {self.rank} on {self.host}"

    def seen_from(self, rank: int) -> str:
        """What the process of another rank says as it ends; the whole reason only where no other rank shows it."""
        if rank in (self.reporter, self.rank):
            return f"{self.where}: {self.reason}"
        first_line = self.reason.partition("\n")[0]
        return f"rank {rank} on {socket.gethostname()} ends because {self.where} failed first: {first_line[:160]}"


class PeerFailed(RuntimeError):
    """This process ends because of another one; the message names it."""


def failure_here(rank: int, error: Exception) -> Failure:
    """The failure that this process's own error is."""
    return Failure(rank=rank, host=socket.gethostname(), reason=f"{type(error).__name__}: {error}", reporter=rank)


def is_peer_error(error: BaseException | None) -> bool:
    """Whether an error says that another process died or is silent, rather than that this one did something wrong."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _PEER_ERRORS)
    )


def main_place() -> str:
    """``file:line in function`` of the main thread."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    return _place([each for each, _ in traceback.walk_stack(frame)][::-1])


def error_place(error: Exception) -> str:
    """``file:line in function`` where an error was raised."""
    return _place([frame for frame, _ in traceback.walk_tb(error.__traceback__)])


def _place(frames: Sequence[FrameType]) -> str:
    """The innermost frame that is not PyTorch's; ``frames`` are outermost first."""
    torch_root = str(Path(dist.__file__).parents[1])
    own = [frame for frame in frames if not frame.f_code.co_filename.startswith(torch_root)] or frames
    if not own:
        return "an unknown place"
    code = own[-1].f_code
    return f"{Path(code.co_filename).name}:{own[-1].f_lineno} in {code.co_name}"


def if_in_reach(call: Callable[[], T]) -> T | None:
    """The result, or None where the store does not answer: its host is down or cut off, or its process has ended."""
    try:
        return call()
    except (dist.DistError, TimeoutError, OSError):
        return None
    except RuntimeError as error:  # what a broken connection is raised as depends on where it broke
        if not any(text in str(error) for text in ("TCPStore", "Broken pipe", "Connection")):
            raise
        return None


def within(seconds: float, call: Callable[[], T]) -> T:
    """The result of ``call``, made in a thread of its own: a store's operation may wait for ever on a silent link.

    Raises:
        TimeoutError: there was no result after so many seconds; the thread is left behind.
    """
    results: list[T] = []
    errors: list[Exception] = []

    def attempt() -> None:
        try:
            results.append(call())
        except Exception as error:  # noqa: BLE001  raised again where the caller waits
            errors.append(error)

    thread = threading.Thread(target=attempt, name="fastvae-attempt", daemon=True)
    thread.start()
    thread.join(max(0.0, seconds))
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer in {seconds:g} s")
    return results[0]


@contextmanager
def signals_held() -> Iterator[None]:
    """Ignore SIGTERM and SIGINT: a launcher that sees one process die stops the others before they say why they end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
