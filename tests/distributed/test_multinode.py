"""Two hosts with a network, torchrun on each through `launch/multinode.sh`: a failed host, a silent link."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import held, launching
from tests.distributed.hosts import Host, Switch, two_hosts, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

OPTIONS = (
    "--train.checkpoint-every=50 --train.log-every=50 --train.final-samples=1 --model.hidden-dim 16 --train.device=cpu"
).split()


@pytest.fixture
def network(tmp_path: Path) -> Iterator[tuple[dict[str, Host], Switch]]:
    with two_hosts(tmp_path) as network:
        yield network


def launch(host: Host, run_dir: Path, *words: str, **variables: str) -> subprocess.Popen[bytes]:
    """Start `launch/multinode.sh` on one host; its output is written to NAME.txt next to the run directory."""
    environment = launching.environment() | {"PYTHON": sys.executable, "PROCESSES": "1", "HEAD": "alpha", "NODES": "2"}
    environment |= variables
    script = str(launching.ROOT / "launch" / "multinode.sh")
    return host.spawn(
        *("bash", script, "digits", f"--run-dir={run_dir}", *OPTIONS, *words),
        log=run_dir.parent / f"{host.name}.txt",
        environment=environment,
    )


def wait_for(what: str, holds: Callable[[], bool], run_dir: Path, timeout_s: float = 180) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            texts = {path.name: path.read_text()[-3000:] for path in run_dir.parent.glob("*.txt")}
            pytest.fail(f"{what} did not happen in {timeout_s:g} s: {json.dumps(texts, indent=1)}")
        time.sleep(0.2)


def status(run_dir: Path) -> dict[str, object]:
    path = run_dir / "status.json"
    return json.loads(path.read_text()) if path.exists() else {}


def newest_step(run_dir: Path) -> int:
    return max((int(path.name.split("_")[1]) for path in (run_dir / "checkpoints").glob("step_*[0-9]")), default=0)


@pytest.mark.timeout(600)
def test_training_resumes_after_a_host_fails_and_restarts(
    network: tuple[dict[str, Host], Switch], tmp_path: Path
) -> None:
    """Training resumes from a checkpoint and ends with the weights of an undisturbed run of two processes."""
    (hosts, switch), run_dir, hold = network, tmp_path / "run", tmp_path / "hold"
    words, variables = ("--train.steps=600", "--plugin=tests.held"), held.environment(hold)
    agents = {name: launch(host, run_dir, *words, **variables) for name, host in hosts.items()}
    wait_for("a checkpoint", lambda: newest_step(run_dir) >= 50 and held.all_have("held", hold, 2), run_dir)
    hosts["beta"].cut_power()
    held.release(hold)
    hosts["beta"].start()
    switch.plug_in(hosts["beta"])
    agents["beta"] = launch(hosts["beta"], run_dir, *words, **variables)
    wait_for("the end", lambda: all(agent.poll() is not None for agent in agents.values()), run_dir, 300)
    assert status(run_dir)["state"] == "done"
    assert "on beta: process" in (tmp_path / "alpha.txt").read_text()
    assert (run_dir / "logs" / "rank_0.log").read_text().count("rank 0 of 2 on") == 2

    undisturbed = tmp_path / "undisturbed"
    launching.fastvae("train", "digits", f"--run-dir={undisturbed}", *OPTIONS, "--train.steps=600", num_processes=2)
    ours, theirs = ((path / "model.safetensors").read_bytes() for path in (run_dir, undisturbed))
    assert ours == theirs


@pytest.mark.timeout(400)
def test_a_silent_link_is_detected_within_the_timeout(network: tuple[dict[str, Host], Switch], tmp_path: Path) -> None:
    """The cable is down but no connection is closed: each side names the other and a command that checks the link."""
    (hosts, _), run_dir = network, tmp_path / "run"
    for host in hosts.values():
        launch(host, run_dir, "--train.steps=1000000", "--train.timeout=8")
    wait_for("a checkpoint", lambda: newest_step(run_dir) >= 50, run_dir)
    hosts["beta"].run("ip", "link", "set", "eth0", "down")

    def heard(name: str) -> str:
        """Return the error of one host's rank."""
        lines = (tmp_path / f"{name}.txt").read_text().splitlines()
        return next((line for line in lines if line.startswith("fastvae: rank")), "")

    wait_for("an error on each host", lambda: all(heard(name) for name in hosts), run_dir)
    head = "alpha" if "on beta: process" in heard("alpha") else "beta"
    other = next(name for name in hosts if name != head)
    assert heard(head).startswith(f"fastvae: rank 1 on {other}: process")
    assert "Nothing was received from it for 8 s (--train.timeout)" in heard(head)
    assert heard(other).startswith(f"fastvae: rank 0 on {head}: its host is not reachable from rank 1 on {other}")
    assert "the link between the hosts (ip -s link" in heard(other)
    assert status(run_dir)["state"] == "failed"
    assert (status(run_dir)["rank"], status(run_dir)["host"]) in ((1, other), (0, head))
