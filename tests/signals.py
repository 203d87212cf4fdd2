"""Signals that a process under test sends itself or waits for."""

from __future__ import annotations

import fcntl
import signal
import struct
import termios
import time


def wait_until_read() -> None:
    """Wait until the thread that reads this process's signals has read those that arrived.

    On a busy machine it may otherwise be scheduled some steps later. Python writes each signal to a pipe.
    """
    pipe = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(pipe, warn_on_full_buffer=False)
    while pipe >= 0 and struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]:
        time.sleep(0.001)
