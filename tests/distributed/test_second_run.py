"""A script under torchrun may train several times, and a failure of a later run is named as in the first."""

from __future__ import annotations

from pathlib import Path

from tests import launching, runs

WORKER = Path(__file__).with_name("second_run_worker.py")


def test_a_failure_in_the_second_run_of_a_process_is_named(tmp_path: Path) -> None:
    result = launching.run([str(WORKER), str(tmp_path)], num_processes=2, check=False)
    assert result.returncode != 0
    assert runs.status(tmp_path / "first")["state"] == "done"
    status = runs.status(tmp_path / "second")
    assert (status["state"], status["rank"]) == ("failed", 1)
    assert "a planted failure" in status["reason"]
