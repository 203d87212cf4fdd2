"""status.json: the state of a run, and whether it repeats the same failure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fastvae.distributed import World
from fastvae.train.run_dir.status import fingerprint, read_status, write_status

WORLD = World()


def fail(run_dir: Path, reason: str) -> int:
    """Start again, fail for this reason, and return the number of such failures in a row."""
    write_status(run_dir, WORLD, "running", 0)
    write_status(run_dir, WORLD, "failed", 7, reason=reason)
    return json.loads((run_dir / "status.json").read_text())["failure"]["count"]


def test_the_same_error_is_counted_and_another_is_not(tmp_path: Path) -> None:
    assert fail(tmp_path, "OSError: no space left, 12 bytes\nmore") == 1
    assert fail(tmp_path, "OSError: no space left, 907 bytes\nother") == 2
    assert fail(tmp_path, "RuntimeError: Connection closed by peer [10.0.0.2]:4410") == 1


def test_a_newer_checkpoint_resets_the_count(tmp_path: Path) -> None:
    assert fail(tmp_path, "OSError: flaky") == 1
    (tmp_path / "checkpoints" / "step_00000100").mkdir(parents=True)
    assert fail(tmp_path, "OSError: flaky") == 1
    assert fail(tmp_path, "OSError: flaky") == 2


def test_a_stop_keeps_the_count_and_the_end_drops_it(tmp_path: Path) -> None:
    assert fail(tmp_path, "OSError: flaky") == 1
    write_status(tmp_path, WORLD, "preempted", 3, reason="SIGUSR1")
    assert fail(tmp_path, "OSError: flaky") == 2
    write_status(tmp_path, WORLD, "done", 10, reason="all steps done")
    assert "failure" not in (read_status(tmp_path) or {})


def test_the_status_names_the_start_that_wrote_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTVAE_ATTEMPT", "17.2")
    write_status(tmp_path, WORLD, "running", 0)
    assert (read_status(tmp_path) or {})["attempt"] == "17.2"


def test_only_the_main_rank_writes(tmp_path: Path) -> None:
    write_status(tmp_path, World(rank=1, world_size=2), "running", 0)
    assert read_status(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"state": "done"}'])
def test_a_damaged_status_file_is_reported_and_does_not_stop_a_run(tmp_path: Path, text: str) -> None:
    (tmp_path / "status.json").write_text(text)
    with pytest.raises(ValueError, match=r"status\.json: must"):
        read_status(tmp_path)
    assert fail(tmp_path, "OSError: flaky") == 1


def test_fingerprints_ignore_numbers_only() -> None:
    assert fingerprint("E: at 0x7f0a1c [10.0.0.2]:31") == fingerprint("E: at 0x12ff [10.0.0.13]:9")
    assert fingerprint("E: left") != fingerprint("E: right")
