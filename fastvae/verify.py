"""Test resuming: kill short runs at random points, resume them, and compare the final states."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch

from fastvae.train.run_dir.checkpoint import CheckpointError, newest_valid
from fastvae.train.run_dir.run_dir import RunDir

_KILLS_PER_RUN = 5


@dataclass(frozen=True, kw_only=True)
class Kill:
    """Result of one kill."""

    number: int
    signal: str
    at_step: int  # the last step that the run had logged when it was killed
    resumed_from: int  # step of the checkpoint that it resumed from; 0 is the start
    run: str  # the directory of the run that was killed

    @property
    def repeated_steps(self) -> int:
        """Number of steps that were repeated, at least."""
        return max(0, self.at_step - self.resumed_from)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """All kills, and the differences of each killed run from the uninterrupted one."""

    kills: list[Kill]
    differences: dict[str, list[str]]  # by run; empty lists mean bit-equal results

    @property
    def num_equal(self) -> int:
        """Number of kills whose run was bit-equal to the uninterrupted one."""
        return sum(not self.differences[kill.run] for kill in self.kills)

    @property
    def holds(self) -> bool:
        """Whether all runs were bit-equal."""
        return self.num_equal == len(self.kills)


@dataclass(frozen=True)
class Program:
    """`fastvae train` with the given arguments, in one process or under torchrun."""

    words: tuple[str, ...]
    num_processes: int = 1

    def start(self, run_dir: Path) -> subprocess.Popen[bytes]:
        """Start or resume the run; its output is written to a file in its directory."""
        run_dir.mkdir(parents=True, exist_ok=True)
        command = [sys.executable]
        if self.num_processes > 1:
            command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={self.num_processes}"]
        command += ["-m", "fastvae", "train", *self.words, f"--run-dir={run_dir}", "--train.log-every=1"]
        with RunDir(run_dir).output.open("ab") as output:
            return subprocess.Popen(command, stdout=output, stderr=output, env=_one_thread())

    def finish(self, run_dir: Path) -> None:
        """Run to the end.

        Raises:
            RuntimeError: it failed; the message has the end of its output.
        """
        code = self.start(run_dir).wait()
        if code != 0:
            text = RunDir(run_dir).output.read_text(errors="replace")
            raise RuntimeError(f"{run_dir}: exit code {code} without a kill; its output:\n{text[-3000:]}")


def verify_resume(
    program: Program, root: Path, *, kills: int, steps: int, seed: int, report: Callable[[str], None]
) -> Verdict:
    """Run once uninterrupted, then kill runs repeatedly, up to five times each, and compare the results.

    Args:
        program: the program to run.
        root: an empty directory for the runs.
        kills: number of kills, alternately by SIGKILL and SIGTERM.
        steps: number of steps per run.
        seed: seed of the points at which runs are killed.
        report: called with a line on every kill.

    Raises:
        RuntimeError: a run failed without a kill.
    """
    rng = random.Random(seed)
    undisturbed = root / "undisturbed"
    program.finish(undisturbed)
    done: list[Kill] = []
    differences: dict[str, list[str]] = {}
    while len(done) < kills:
        run_dir = root / f"killed_{len(differences):02d}"
        many = min(_KILLS_PER_RUN, kills - len(done))
        for target in sorted(rng.randrange(steps) for _ in range(many)):
            number = signal.SIGTERM if len(done) % 2 else signal.SIGKILL
            at_step = _kill_after(program, run_dir, target, number, rng)
            if at_step is None:
                break  # it ended before the signal
            done.append(_kill(len(done) + 1, number, at_step, run_dir))
            report(f"  {line(done[-1])}")
        program.finish(run_dir)
        differences[str(run_dir)] = compare(undisturbed, run_dir)
        report(f"  {run_dir.name}: {'DIFFERS' if differences[str(run_dir)] else 'bit-equal'}")
    return Verdict(kills=done, differences=differences)


def line(kill: Kill) -> str:
    """Return a line of the table for a kill."""
    return (
        f"{kill.number:4d}  {kill.signal:8} at step {kill.at_step:6d}   resumed from {kill.resumed_from:6d}   "
        f"repeated {kill.repeated_steps:4d} steps   {Path(kill.run).name}"
    )


def compare(one: Path, other: Path) -> list[str]:
    """Return the differences of two runs: tensors of the newest checkpoint, counters, weights, evaluation."""
    ends = [newest_valid(RunDir(run).checkpoints, on_invalid=_refuse) for run in (one, other)]
    if ends[0] is None or ends[1] is None:
        return ["a run has no checkpoint"]
    differing = [
        f"{name} is {ends[0].scalars.get(name)} and {ends[1].scalars.get(name)}"
        for name in sorted(ends[0].scalars.keys() - {"config", "versions"})
        if ends[0].scalars.get(name) != ends[1].scalars.get(name)
    ]
    for name in sorted({path.name for end in ends if end is not None for path in end.path.glob("*.safetensors")}):
        differing += _compare_tensors(ends[0].path / name, ends[1].path / name)
    ours, theirs = RunDir(one), RunDir(other)
    if ours.evaluation.read_bytes() != theirs.evaluation.read_bytes():
        differing.append(f"{ours.evaluation.name} differs")
    return differing + _compare_tensors(ours.weights, theirs.weights)


def _compare_tensors(one: Path, other: Path) -> list[str]:
    if not (one.exists() and other.exists()):
        return [f"only one run has {one.name}"]
    if one.read_bytes() == other.read_bytes():  # files of equal tensors can differ in the order of their metadata
        return []
    with safetensors.safe_open(one, "pt") as first, safetensors.safe_open(other, "pt") as second:
        if set(first.keys()) != set(second.keys()):
            return [f"{one.name} has different tensors"]
        names = [n for n in first.keys() if not _same_bits(first.get_tensor(n), second.get_tensor(n))]  # noqa: SIM118
    return [f"{len(names)} tensors differ, the first is {names[0]}"] if names else []


def _same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    bits = [tensor.contiguous().flatten().view(torch.uint8) for tensor in (one, other)]
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(*bits)


def _refuse(error: CheckpointError) -> None:
    raise error


def _kill(number: int, sent: signal.Signals, at_step: int, run_dir: Path) -> Kill:
    newest = newest_valid(RunDir(run_dir).checkpoints, on_invalid=_refuse)  # a kill must not leave an incomplete one
    step = 0 if newest is None else newest.step
    return Kill(number=number, signal=sent.name, at_step=at_step, resumed_from=step, run=str(run_dir))


def _kill_after(program: Program, run_dir: Path, target: int, number: signal.Signals, rng: random.Random) -> int | None:
    """Start the run, wait until it has logged the step and a little longer, and kill it; return its step.

    None if it had already ended.
    """
    process = program.start(run_dir)
    while (step := _logged_step(run_dir)) < target and process.poll() is None:
        time.sleep(0.005)
    time.sleep(rng.uniform(0, 0.05))
    if process.poll() is not None:
        if process.returncode != 0:
            raise RuntimeError(f"{run_dir}: exit code {process.returncode} before it was killed; see output.txt there")
        return None
    step = max(step, _logged_step(run_dir))
    _kill_all(process, number)
    return step if process.returncode != 0 else None


def _kill_all(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send SIGKILL to every process of the run, as in a power failure; other signals to its first process."""
    workers = children(process.pid) if number == signal.SIGKILL else []
    process.send_signal(number)
    for worker in workers:
        try:
            os.kill(worker, number)
        except ProcessLookupError:  # it has already ended
            continue
    process.wait()
    while any(Path(f"/proc/{worker}/cmdline").exists() and _is_running(worker) for worker in workers):
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    """Return the descendants of a process; empty on systems without /proc."""
    try:
        direct = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
    return [*direct, *(grandchild for child in direct for grandchild in children(child))]


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


def _logged_step(run_dir: Path) -> int:
    """Return the last step in metrics.jsonl; -1 if there is none."""
    path = RunDir(run_dir).metrics
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for text in reversed(lines):
        try:
            return int(json.loads(text)["step"])
        except ValueError:  # a line that is being written
            continue
    return -1


def _one_thread() -> dict[str, str]:
    """Return this environment with one thread per process by default: sums depend on the number of threads."""
    return {"OMP_NUM_THREADS": "1", **os.environ}


def text_table(verdict: Verdict, steps: int) -> str:
    """Return the summary that follows the lines on every kill."""
    lost = max((kill.repeated_steps for kill in verdict.kills), default=0)
    lines = [f"{run_dir}: {difference}" for run_dir, found in verdict.differences.items() for difference in found]
    lines.append(
        f"{verdict.num_equal} of {len(verdict.kills)} kills bit-equal to the uninterrupted run of {steps} steps; at "
        "most "
        f"{lost} steps were repeated"
    )
    return "\n".join(lines)


__all__ = ["Kill", "Program", "Verdict", "children", "compare", "text_table", "verify_resume"]
