"""How a process finds its rank, and its errors if none or only some of the processes were started."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch.distributed as dist

from fastvae.distributed import world_from_environment
from tests import launching

PLACE = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


def without(*names: str) -> dict[str, str]:
    return {name: value for name, value in PLACE.items() if name not in names}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2 in the environment, but RANK is not set.*Unset WORLD_SIZE"),
        (without("MASTER_ADDR"), "MASTER_ADDR is not set"),
        (without("MASTER_PORT"), "MASTER_PORT is not set"),
        (without("WORLD_SIZE"), "got RANK 1 and WORLD_SIZE None.*Unset both"),
        ({**PLACE, "RANK": "2"}, "got RANK 2 and WORLD_SIZE 2"),
        ({**PLACE, "RANK": "-1"}, "got RANK -1"),
        ({**PLACE, "RANK": "one"}, "RANK must be a whole number"),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, "SLURM_NTASKS is 2, but no launcher.*srun --ntasks=1"),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4"}, "SLURM_STEP_NUM_TASKS is 4.*fastvae submit"),
    ],
)
def test_an_incomplete_environment_is_refused(variables: dict[str, str], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        world_from_environment("cpu", variables)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"WORLD_SIZE": "1"},
        {"SLURM_NTASKS": "1"},
        {"SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "1"},  # one process of srun in a larger job
        {"RANK": "0", "WORLD_SIZE": "1", "SLURM_NTASKS": "2"},  # torchrun under srun
    ],
)
def test_an_empty_environment_is_one_process(variables: dict[str, str]) -> None:
    world = world_from_environment("cpu", variables)
    assert (world.rank, world.world_size) == (0, 1)


def test_a_launchers_environment_is_read() -> None:
    world = world_from_environment("cpu", {**PLACE, "SLURM_NTASKS": "2"})
    assert (world.rank, world.world_size) == (1, 2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("rank", "expected"),
    [
        (0, "rank 1, 2 did not reach 127.0.0.1:{port} within 2 s (--train.timeout); 1 of 3 processes did"),
        (1, "did not reach rank 0 at 127.0.0.1:{port} within 2 s (--train.timeout)"),
    ],
)
def test_an_absent_peer_is_named_within_the_timeout(rank: int, expected: str, tmp_path: Path) -> None:
    port = free_port()
    place = {"RANK": str(rank), "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    code = (
        "import time; from fastvae.distributed import PeerFailed, enter_world; start = time.monotonic()\n"
        "try:\n with enter_world('cpu', timeout_s=2): pass\n"
        "except PeerFailed as error: print(time.monotonic() - start, error)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], env=launching.environment() | place, capture_output=True, text=True, timeout=120
    )
    seconds, _, message = result.stdout.strip().partition(" ")
    assert expected.format(port=port) in message, result.stderr
    assert "unset RANK, WORLD_SIZE" in message
    assert message.count("\n") == 0
    assert float(seconds) < 2 + 5  # 2 s are requested; the rest is for a busy machine
    assert result.returncode == 1  # the waiting threads do not keep the process alive


def meet(port: int, rank: int, timeout_s: int = 20, **variables: str) -> subprocess.Popen[str]:
    """Start one of two ranks; it prints "met" if it meets the other one."""
    place = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    code = f"from fastvae.distributed import enter_world\nwith enter_world('cpu', timeout_s={timeout_s}): print('met')"
    environment = launching.environment() | place | variables
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_ranks_meet_whatever_their_agents_count() -> None:
    """A host that restarts has an agent that counts its restarts from 0; those of the others go on."""
    port = free_port()
    ranks = [meet(port, rank, TORCHELASTIC_RESTART_COUNT=str(1 - rank)) for rank in (0, 1)]
    assert [rank.communicate(timeout=120)[0] for rank in ranks] == ["met\n"] * 2


def leave_a_ghost(agent: dist.TCPStore, rank: int) -> None:
    """Let a rank say hello, and kill it."""
    dead = meet(agent.port, rank, TORCHELASTIC_USE_AGENT_STORE="True")
    wait_until(agent, f"fastvae/0/hello/{rank}")
    dead.kill()
    dead.communicate()


def wait_until(agent: dist.TCPStore, key: str) -> None:
    deadline = time.monotonic() + 60
    while not agent.check([key]):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def agent() -> dist.TCPStore:
    """The store that torchrun's agent may serve for all attempts."""
    return dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def test_ranks_do_not_meet_a_dead_process_in_a_store_that_outlives_it(agent: dist.TCPStore) -> None:
    leave_a_ghost(agent, 1)
    head = meet(agent.port, 0, TORCHELASTIC_USE_AGENT_STORE="True")
    wait_until(agent, "fastvae/0/meetings")  # it has invited the dead process
    ranks = [head, meet(agent.port, 1, TORCHELASTIC_USE_AGENT_STORE="True")]
    assert [rank.communicate(timeout=120)[0] for rank in ranks] == ["met\n"] * 2


def test_a_head_that_said_hello_and_died_is_missing(agent: dist.TCPStore) -> None:
    leave_a_ghost(agent, 0)
    _, errors = meet(agent.port, 1, 2, TORCHELASTIC_USE_AGENT_STORE="True").communicate(timeout=120)
    assert ": rank 0 did not reach 127.0.0.1:" in errors
