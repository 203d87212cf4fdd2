"""The ring of heartbeats: which rank watches which, and the definition of silence."""

from __future__ import annotations

import pytest
import torch.distributed as dist

from fastvae.distributed.peers import heartbeat
from fastvae.distributed.peers.heartbeat import Clock, Heartbeat


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a test sets."""
    now = [100.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now[0])
    return now


def ring(size: int) -> list[Heartbeat]:
    store = dist.HashStore()
    return [Heartbeat(store, rank, size) for rank in range(size)]


def test_each_rank_watches_the_next_lower_active_rank() -> None:
    hearts = ring(4)
    assert [heart.watched for heart in hearts] == [3, 0, 1, 2]
    hearts[1].leave()
    hearts[0].leave()
    hearts[2].beat()
    assert hearts[2].watched == 3
    hearts[3].leave()
    hearts[2].beat()
    assert hearts[2].watched is None


def test_silence_is_the_time_since_the_last_heartbeat(clock: list[float]) -> None:
    first, second = ring(2)
    for _ in range(3):
        clock[0] += 0.5
        first.beat()
        second.beat()
    assert second.silence_s == 0
    for _ in range(4):
        clock[0] += 0.5
        second.beat()
    assert second.silence_s == 2
    first.beat()
    second.beat()
    assert second.silence_s == 0


def test_suspension_of_this_process_does_not_count_as_silence(clock: list[float]) -> None:
    _, second = ring(2)
    store_silence = Clock()
    second.beat()
    second.beat()
    clock[0] += 3600  # suspended
    second.beat()
    assert second.silence_s == 2
    assert store_silence.tick() == 2


def test_a_single_rank_watches_no_other() -> None:
    heart = Heartbeat(dist.HashStore(), 0, 1)
    heart.beat()
    assert heart.watched is None
