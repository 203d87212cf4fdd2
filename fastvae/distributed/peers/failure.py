"""Failures: the rank on which a failure happened first, and how every rank reports it."""

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

# Parts of PyTorch's messages if another rank failed; gloo's errors are plain RuntimeErrors.
_PEER_ERRORS = ("gloo/transport", "Application timeout caused pair closure", "NCCL", "Connection closed by")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The first failure of a run."""

    rank: int
    """The rank that failed."""
    host: str
    """Its host."""
    reason: str
    """What happened, and what to check."""
    reporter: int
    """The rank that prints the whole reason: the one that failed, or the first that detected it."""

    @property
    def where(self) -> str:
        """The rank and its host, for messages."""
        return f"rank {self.rank} on {self.host}"

    def seen_from(self, rank: int) -> str:
        """Return the message of another rank's process; it has the whole reason only if no other rank prints it."""
        if rank in (self.reporter, self.rank):
            return f"{self.where}: {self.reason}"
        first_line = self.reason.partition("\n")[0]
        return f"rank {rank} on {socket.gethostname()} ends because {self.where} failed first: {first_line[:160]}"


class PeerFailed(RuntimeError):
    """This process ends because another one failed; the message names it.

    Args:
        message: the message.
        is_same_error: whether this process raised the same error, which the other one prints for both; it is the cause
            of this exception.
    """

    def __init__(self, message: str, *, is_same_error: bool = False) -> None:
        super().__init__(message)
        self.is_same_error = is_same_error


def failure_here(rank: int, error: Exception) -> Failure:
    """Return the failure of an error of this process."""
    return Failure(rank=rank, host=socket.gethostname(), reason=f"{type(error).__name__}: {error}", reporter=rank)


def is_peer_error(error: BaseException | None) -> bool:
    """Whether an error was caused by another process that died or does not respond."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _PEER_ERRORS)
    )


def main_place() -> str:
    """Return ``file:line in function`` of the main thread."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    return _place([each for each, _ in traceback.walk_stack(frame)][::-1])


def error_place(error: Exception) -> str:
    """Return ``file:line in function`` at which an error was raised."""
    return _place([frame for frame, _ in traceback.walk_tb(error.__traceback__)])


def _place(frames: Sequence[FrameType]) -> str:
    """Return the innermost frame outside PyTorch; ``frames`` are outermost first."""
    torch_root = str(Path(dist.__file__).parents[1])
    own = [frame for frame in frames if not frame.f_code.co_filename.startswith(torch_root)] or frames
    if not own:
        return "an unknown location"
    code = own[-1].f_code
    return f"{Path(code.co_filename).name}:{own[-1].f_lineno} in {code.co_name}"


def if_in_reach(call: Callable[[], T]) -> T | None:
    """Return the result, or None if the store does not respond: its host is unreachable, or its process has ended."""
    try:
        return call()
    except (dist.DistError, TimeoutError, OSError):
        return None
    except RuntimeError as error:  # the type of the error depends on where the connection broke
        if not any(text in str(error) for text in ("TCPStore", "Broken pipe", "Connection")):
            raise
        return None


def within(seconds: float, call: Callable[[], T]) -> T:
    """Call ``call`` in its own thread: an operation of a store may wait forever on a broken link.

    Raises:
        TimeoutError: there was no result after so many seconds; the thread is abandoned.
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
    """Ignore SIGTERM and SIGINT: a launcher that sees one process die stops the others before they have reported the
    reason.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
