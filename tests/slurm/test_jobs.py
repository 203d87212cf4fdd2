"""The shipped batch scripts on a real Slurm: two nodes, stops, a power cut, a sweep.

All jobs are submitted at once because they mostly wait. Jobs that a test disturbs wait in a step after their first
checkpoint (`tests/held.py`), so that no test depends on the machine's speed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from tests import held, launching
from tests.faults.program import Program
from tests.slurm.cluster import Cluster, wait_for

SCRIPTS = launching.ROOT / "launch" / "slurm"
OPTIONS = (
    "--train.steps=1000 --train.final-samples=1 --model.hidden-dim 16 --train.device=cpu --train.log-every=200"
    " --train.eval-every=500 --train.checkpoint-every=50 --train.keep-checkpoints=50 --train.timeout=300"
).split()
HELD = "--plugin=tests.held"
FIRST_CHECKPOINT = "step_00000050"
ENDED = ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED")
SWEEP = ("--seed 1", "--seed 2 --train.lr 1e-3")
APPTAINER = """#!/bin/bash
# What train.sbatch needs of Apptainer: drop its options and the image, run the command.
echo "apptainer $*"
while [ "${1%.sif}" = "$1" ]; do shift; done
shift
exec "$@"
"""

pytestmark = pytest.mark.timeout(900)


class Jobs:
    """The jobs of this module, by name; each writes NAME.log and the run directory NAME."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.ids: dict[str, str] = {}
        self.ranks: dict[str, dict[str, str]] = {}  # by job: the node of each rank
        self.held: dict[str, int] = {}  # number of ranks of each job that is held

    def sbatch(self, name: str, *words: str, **variables: str) -> None:
        options = ["--parsable", f"--job-name={name}", f"--output={name}.log"]
        self.ids[name] = self.cluster.run("sbatch", *options, *words, **variables).stdout.strip()

    def train(self, name: str, *sbatch: str, ranks: int = 1) -> None:
        """Submit a run that is held."""
        words = (*sbatch, str(SCRIPTS / "train.sbatch"), "digits", *OPTIONS, f"--run-dir={name}", HELD)
        self.sbatch(name, *words, **self.hold(name, ranks))

    def hold(self, name: str, ranks: int = 1) -> dict[str, str]:
        """Return the environment in which a job is held."""
        self.held[name] = ranks
        return held.environment(self.folder(name))

    def folder(self, name: str) -> Path:
        """The folder by which a job is held, see `held`."""
        return self.cluster.work / "hold" / name

    def release(self, name: str) -> None:
        held.release(self.folder(name))

    def log(self, name: str) -> str:
        path = self.cluster.work / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def fields(self, name: str) -> dict[str, str]:
        return self.cluster.job(self.ids[name])

    def wait(self, name: str, what: str, done: Callable[[], object]) -> None:
        try:
            wait_for(f"{name}: {what}", done, timeout_s=600)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.fields(name)}\n{self.log(name)[-6000:]}") from error

    def wait_for_end(self, name: str) -> dict[str, str]:
        self.wait(
            name, "ends", lambda: self.fields(name)["JobState"] in ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED")
        )
        fields = self.fields(name)
        assert fields["JobState"] == "COMPLETED", self.log(name)[-6000:]
        return fields

    def have(self, what: str, name: str) -> bool:
        """Whether all ranks of a job are ``held``, or have ``heard`` a stop signal."""
        return held.all_have(what, self.folder(name), self.held[name])

    def has_checkpoint(self, name: str) -> bool:
        return (self.cluster.work / name / "checkpoints" / FIRST_CHECKPOINT).exists()

    def weights(self, name: str) -> dict[str, Tensor]:
        return safetensors.torch.load_file(self.cluster.work / name / "model.safetensors")


@pytest.fixture(scope="module")
def alone(cluster: Cluster, program: Program) -> Path:
    """The same run in one process, outside Slurm."""
    run_dir = cluster.work / "alone"
    program.run_words("train", "digits", f"--run-dir={run_dir}", *OPTIONS, output=cluster.work / "alone_output")
    return run_dir


@pytest.fixture(scope="module")
def jobs(cluster: Cluster, alone: Path) -> Jobs:
    """Submit every job; wait until those with a disturbance are held after their first checkpoint, and disturb them."""
    jobs = Jobs(cluster)
    jobs.train("limit", "--time=10", "--signal=B:USR1@120")
    jobs.train("two", "--nodes=2", ranks=2)
    jobs.train("power", "--nodes=2", ranks=2)
    words = ("fastvae", "submit", "digits", *OPTIONS, "--run-dir=requeue", "--time=10", HELD)
    submitted = cluster.run(*words, **jobs.hold("requeue")).stdout
    jobs.ids["requeue"] = submitted.split()[1].rstrip(":")
    assert f"{cluster.work}/requeue/slurm-{jobs.ids['requeue']}.out" in submitted
    submit_sweep(jobs)
    for name in jobs.held:
        jobs.wait(name, "is held", lambda n=name: jobs.have("held", n) and jobs.has_checkpoint(n))  # type: ignore[misc]
    jobs.ranks["two"] = {t["RANK"]: t["SLURMD_NODENAME"] for t in cluster.trainers(jobs.ids["two"]).values()}
    jobs.release("two")
    cluster.run("scontrol", "requeue", jobs.ids["requeue"])
    jobs.wait("requeue", "is asked to stop", lambda: jobs.have("heard", "requeue"))
    jobs.release("requeue")
    hours, minutes, _ = map(int, jobs.fields("limit")["RunTime"].split(":"))
    cluster.run("scontrol", "update", f"JobId={jobs.ids['limit']}", f"TimeLimit={60 * hours + minutes + 2}")
    return jobs


def submit_sweep(jobs: Jobs) -> None:
    """Submit two settings, one at a time, in a container image that a fake Apptainer runs."""
    work = jobs.cluster.work
    (work / "settings.txt").write_text("\n".join(SWEEP) + "\n")
    (work / "bin").mkdir()
    (work / "bin" / "apptainer").write_text(APPTAINER)
    (work / "bin" / "apptainer").chmod(0o755)
    jobs.sbatch(
        "sweep",
        "--array=0-1%1",
        str(SCRIPTS / "sweep.sbatch"),
        *("digits", "settings.txt", *OPTIONS, "--train.steps=20"),
        IMAGE="fastvae.sif",
        PATH=f"{work / 'bin'}{os.pathsep}{jobs.cluster.environment()['PATH']}",
    )


def checkpoint_weights(run_dir: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for shard in (run_dir / "checkpoints" / FIRST_CHECKPOINT).glob("*.safetensors"):
        found |= safetensors.torch.load_file(shard)
    return found


def assert_bit_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], weight) for name, weight in theirs.items())


def test_the_time_limit_stops_and_requeues_a_run(jobs: Jobs, alone: Path) -> None:
    """The early warning stops the run at a step's end; the job is requeued and ends like an uninterrupted run."""
    jobs.wait("limit", "is warned", lambda: jobs.have("heard", "limit"))
    jobs.cluster.run("scontrol", "update", f"JobId={jobs.ids['limit']}", "TimeLimit=20")
    jobs.release("limit")
    assert jobs.wait_for_end("limit")["Restarts"] == "1"
    assert "early warning, passed on" in jobs.log("limit")
    assert "SIGUSR1: saved step" in jobs.log("limit")
    assert "limit: again: stopped by SIGUSR1 at step" in jobs.log("limit")
    assert "limit: done: all steps done" in jobs.log("limit")
    assert_bit_equal(jobs.weights("limit"), safetensors.torch.load_file(alone / "model.safetensors"))


def test_status_of_a_running_job(jobs: Jobs) -> None:
    shown = jobs.cluster.run("fastvae", "status", "power").stdout
    assert "running, step 0 of 1000" in shown
    assert "checkpoint  step_" in shown
    assert f"{jobs.ids['power']} RUNNING on {jobs.cluster.tag}n[1-2]" in shown


def test_a_requeued_run_resumes(jobs: Jobs, alone: Path) -> None:
    """`scontrol requeue` saves, and the next start resumes from that checkpoint."""
    log = jobs.cluster.work / "requeue" / f"slurm-{jobs.ids['requeue']}.out"
    assert jobs.wait_for_end("requeue")["Restarts"] == "1"
    assert "SIGTERM: saved step" in log.read_text()
    assert "from the checkpoint of step" in log.read_text()
    assert_bit_equal(jobs.weights("requeue"), safetensors.torch.load_file(alone / "model.safetensors"))


def test_a_run_on_two_nodes_equals_one_process(jobs: Jobs, alone: Path) -> None:
    """Ranks 0 and 1 are on different nodes, and their weights are those of one process."""
    assert sorted(jobs.ranks["two"]) == ["0", "1"]
    assert sorted(jobs.ranks["two"].values()) == jobs.cluster.node_names
    jobs.wait_for_end("two")
    assert "2 x cpu, ddp" in jobs.log("two")
    ours, theirs = checkpoint_weights(jobs.cluster.work / "two"), checkpoint_weights(alone)
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, atol=1e-4, rtol=1e-3)


def test_a_run_resumes_after_a_node_loses_power(jobs: Jobs) -> None:
    """The other node's rank fails, the job is requeued, and after the node's restart ends like an uninterrupted run."""
    cluster = jobs.cluster
    jobs.wait_for_end("two")
    batch_host = jobs.fields("power")["BatchHost"]
    lost = next(name for name in cluster.node_names if name != batch_host)
    cluster.cut_power(lost)
    jobs.release("power")
    jobs.wait("power", "is queued again", lambda: jobs.fields("power")["Restarts"] != "0")
    cluster.power_on(lost)
    assert int(jobs.wait_for_end("power")["Restarts"]) >= 1
    assert "from the checkpoint of step" in jobs.log("power")
    assert_bit_equal(jobs.weights("power"), jobs.weights("two"))


def test_a_sweep_runs_each_line_in_its_directory(jobs: Jobs) -> None:
    """Each task has the settings of its line and its own directory; %1 runs one at a time; they run in the image."""
    cluster = jobs.cluster

    def tasks() -> list[dict[str, str]]:
        lines = cluster.run("scontrol", "--oneliner", "show", "job", jobs.ids["sweep"]).stdout.splitlines()
        return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines if line]

    jobs.wait("sweep", "ends", lambda: {task["JobState"] for task in tasks()} <= set(ENDED))
    assert {task["JobState"] for task in tasks()} == {"COMPLETED"}, jobs.log("sweep")[-6000:]
    first, second = sorted(tasks(), key=lambda task: int(task["ArrayTaskId"]))
    assert first["EndTime"] <= second["StartTime"]
    seeds = [
        safetensors.torch.load_file(cluster.work / "runs" / "settings" / task / "model.safetensors") for task in "01"
    ]
    assert any(not torch.equal(seeds[0][name], weight) for name, weight in seeds[1].items())
    assert f"apptainer exec --bind {cluster.work}:{cluster.work}" in jobs.log("sweep")
    status = json.loads((cluster.work / "runs" / "settings" / "1" / "status.json").read_text())
    assert status["state"] == "done"
    assert status["attempt"].startswith(f"{second['JobId']}.")
    assert status["time"] <= time.time()
