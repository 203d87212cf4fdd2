"""Which file a process reads at present: another process can then name it if this one dies or hangs."""

from __future__ import annotations

from torch import Tensor

PLACE_BYTES = 512

_place: Tensor | None = None  # uint8 [PLACE_BYTES] in shared memory; None: nobody asks


def watch(place: Tensor | None) -> None:
    """Write the names that `reading` is given to ``place``, uint8 ``[PLACE_BYTES]`` in shared memory, from now on."""
    global _place
    _place = place


def reading(name: str) -> None:
    """Record that this process begins to read an example; to be called by sources that read one file or one member."""
    if _place is None:
        return
    text = name.encode("utf-8", "replace")[-PLACE_BYTES:]
    array = _place.numpy()
    array[:] = 0
    array[: len(text)] = bytearray(text)


def name_in(place: Tensor) -> str | None:
    """Return the last name that was written to ``place``; None if there is none."""
    text = place.numpy().tobytes().rstrip(b"\0").decode("utf-8", "replace")
    return text or None
