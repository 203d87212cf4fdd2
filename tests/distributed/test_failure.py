"""Every rank of a failed run names the rank that failed first, for each kind of failure."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.faults.program import Program
from tests.once import once

WORKER = Path(__file__).with_name("failure_worker.py")
HOST = socket.gethostname()
PATIENCE_S = 15  # timeout of a world that becomes silent; on a busy machine its processes must also connect within it
WORLDS: dict[str, dict[str, Any]] = {
    "nothing": {"how": "", "culprit": 0, "timeout_s": 60},
    "raises": {"how": "raise", "culprit": 1, "timeout_s": 60},
    "head raises": {"how": "raise", "culprit": 0, "timeout_s": 60},
    "killed": {"how": "kill", "culprit": 2, "timeout_s": 60},
    "head killed": {"how": "kill", "culprit": 0, "timeout_s": 60},
    "stopped": {"how": "stop", "culprit": 1, "timeout_s": PATIENCE_S},
    "busy elsewhere": {"how": "busy", "culprit": 2, "timeout_s": PATIENCE_S},
    "starved": {"how": "starved", "culprit": 2, "timeout_s": PATIENCE_S},
}
RANKS = range(3)


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory, program: Program) -> dict[str, list[dict[str, Any] | None]]:
    """The verdict and the exception of each rank of each world; None for a rank without output."""

    def make(root: Path) -> None:
        (root / "jobs.json").write_text(json.dumps(list(WORLDS.values())))
        program.run_script(WORKER, str(root / "jobs.json"), folder=root)

    root = once(tmp_path_factory, "failures", make)
    paths = {name: [root / f"{number}_{rank}.json" for rank in RANKS] for number, name in enumerate(WORLDS)}
    return {
        name: [json.loads(path.read_text()) if path.exists() else None for path in files]
        for name, files in paths.items()
    }


def survivors(result: list[dict[str, Any] | None]) -> list[dict[str, Any]]:
    return [rank for rank in result if rank is not None]


def verdict(result: list[dict[str, Any] | None]) -> dict[str, Any]:
    """Return the verdict that all survivors received, each once."""
    verdicts = [rank["failures"] for rank in survivors(result)]
    assert all(len(each) == 1 for each in verdicts), verdicts
    assert all(each == verdicts[0] for each in verdicts), verdicts
    return verdicts[0][0]


def test_without_a_failure_no_rank_receives_a_verdict(results: dict[str, Any]) -> None:
    assert [(rank["failures"], rank["raised"]) for rank in results["nothing"]] == [([], None)] * 3


@pytest.mark.parametrize(("name", "culprit"), [("raises", 1), ("head raises", 0)])
def test_the_rank_that_raises_is_named_and_shows_its_own_error(
    results: dict[str, Any], name: str, culprit: int
) -> None:
    error = "ValueError: the third example is missing"
    assert verdict(results[name]) == {"rank": culprit, "host": HOST, "reason": error, "reporter": culprit}
    for rank, result in enumerate(results[name]):
        expected = f"PeerFailed: rank {rank} on {HOST} ends because rank {culprit} on {HOST} failed first: {error}"
        assert result["raised"] == (error if rank == culprit else expected)


def test_a_killed_rank_is_named_with_its_process(results: dict[str, Any]) -> None:
    found = verdict(results["killed"])
    assert (found["rank"], found["host"]) == (2, HOST)
    assert "does not answer. It closed its connections: see logs/rank_2.log" in found["reason"]
    raised = [results["killed"][rank]["raised"] for rank in RANKS[:2]]
    assert all("does not answer" in message for message in raised)
    assert [rank for rank in RANKS[:2] if "failed first" not in raised[rank]] == [found["reporter"]]


def test_a_stopped_rank_is_named_after_the_timeout(results: dict[str, Any]) -> None:
    found = verdict(results["stopped"])
    assert found["rank"] == 1
    assert f"Nothing was received from it for {PATIENCE_S} s (--train.timeout)" in found["reason"]
    assert results["stopped"][1] is None


def test_the_rank_at_another_operation_is_named_if_all_are_alive(results: dict[str, Any]) -> None:
    found = verdict(results["busy elsewhere"])
    assert found["rank"] == 2
    assert f"all ranks are alive, but after {PATIENCE_S} s this one is at failure_worker.py" in found["reason"]
    assert "in fail, rank" in found["reason"]
    assert "in sum_numbers" in found["reason"]


def test_ranks_have_the_same_verdict_although_their_heartbeats_are_late(results: dict[str, Any]) -> None:
    """Those that answer by themselves are not the ones that are named."""
    assert verdict(results["starved"][:2])["rank"] == 2


def test_the_death_of_the_rank_that_serves_the_store_is_named(results: dict[str, Any]) -> None:
    """Rank 0's process serves the store itself, as it does without torchrun's agent."""
    for rank in RANKS[1:]:
        result = results["head killed"][rank]
        assert result["raised"].startswith("PeerFailed: rank 0 on localhost: its host is not reachable from rank")
        assert [failure["rank"] for failure in result["failures"]] == [0]
