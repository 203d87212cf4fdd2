"""Signals that a process under test sends itself or waits for."""

from __future__ import annotations

import fcntl
import signal
import struct
import termios
import time

_set_wakeup_fd = signal.set_wakeup_fd
_pipes = [-1]  # the one that signals are written to is the last


def _recorded(pipe: int, *, warn_on_full_buffer: bool = True) -> int:
    _pipes.append(pipe)
    return _set_wakeup_fd(pipe, warn_on_full_buffer=warn_on_full_buffer)


signal.set_wakeup_fd = _recorded  # only the main thread may ask Python for the pipe; a save runs in another one


def wait_until_read() -> None:
    """Wait until the thread that reads this process's signals has read those that arrived.

    On a busy machine it may otherwise be scheduled some steps later. Python writes each signal to a pipe.
    """
    pipe = _pipes[-1]
    while pipe >= 0 and struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]:
        time.sleep(0.001)
