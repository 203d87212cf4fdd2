"""Rows 18 and 19: a checkpoint contains the step in its name, and the newest valid checkpoint is kept."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import fastvae
from fastvae.distributed import World, build_strategy
from fastvae.train.optim import build_optimizer
from fastvae.train.run_dir.checkpoint import prune, read_checkpoint
from fastvae.train.run_dir.resume import plain
from fastvae.train.run_dir.run_dir import checkpoint_paths
from fastvae.train.run_dir.saving import Saver
from fastvae.train.run_dir.weights import export_weights, read_weights
from fastvae.train.state import EMA, TrainState
from tests.faults.program import Program, logged_step, wait_until
from tests.faults.table import Fault


def test_changes_after_a_save_do_not_reach_the_checkpoint(fault: Fault, tmp_path: Path) -> None:
    """Row 18. Pass: the checkpoint contains the step in its name although all tensors change while it is written."""
    model = torch.nn.Linear(300, 1000)
    config = fastvae.TrainConfig(device="cpu", keep_checkpoints=100)
    strategy = build_strategy("single", World())
    strategy.setup(model, lambda parameters: build_optimizer(config, parameters))
    resolved = plain({"seed": 0, "train": {}})
    parts = {"generator": strategy}
    saver = Saver(tmp_path, parts, config, resolved, None, scheduled=lambda step, lr_factor: {}, replicated={})
    average = EMA(0.9, strategy.full_precision_parameters()).average
    state = TrainState.start(torch.device("cpu"), {"generator": average}, {})
    model(torch.ones(1, 300)).sum().backward()
    times = fault.times(5, 50)
    for step in range(1, times + 1):
        state.step = step
        strategy.optimizer.step()
        with torch.no_grad():
            for tensor in (*model.parameters(), *average.values(), *moments(strategy.optimizer)):
                tensor.fill_(step)
        saver.save(state)
        with torch.no_grad():
            for tensor in (*model.parameters(), *average.values(), *moments(strategy.optimizer)):
                tensor.fill_(-1.0)
    saver.finish()
    for step in range(1, times + 1):
        checkpoint = read_checkpoint(tmp_path / "checkpoints" / f"step_{step:08d}")
        [path] = checkpoint.path.glob("*.safetensors")
        tensors = fastvae_tensors(path)
        assert all((tensor == step).all() for name, tensor in tensors.items() if not name.endswith(".step")), step
    fault.row(18, "everything overwritten right after the save call", injected=times)


def moments(optimizer: torch.optim.Optimizer) -> Iterator[torch.Tensor]:
    for state in optimizer.state.values():
        yield from (state["exp_avg"], state["exp_avg_sq"])


def fastvae_tensors(path: Path) -> dict[str, torch.Tensor]:
    import safetensors.torch

    return dict(safetensors.torch.load_file(path))


def test_a_reader_finds_a_complete_checkpoint_at_any_time(fault: Fault, program: Program, tmp_path: Path) -> None:
    """Row 19. Pass: every load finds a complete checkpoint while the run keeps only one and saves at every step."""
    run_dir, loads = tmp_path / "run", fault.times(10, 200)
    [process] = program.train(
        run_dir, "--train.steps=100000", "--train.checkpoint-every=1", "--train.keep-checkpoints=1"
    )
    wait_until(lambda: logged_step(run_dir) >= 3)
    steps: list[int] = []
    while len(steps) < loads or steps[-1] == steps[0]:  # a busy machine may save less often than this loads
        steps.append(read_weights(run_dir)[0])
    assert steps == sorted(steps)
    process.kill(signal.SIGTERM)
    assert process.wait() == 143, process.text()
    last = checkpoint_paths(run_dir / "checkpoints")
    assert len(last) == 1
    fault.row(19, "loads while checkpoints are removed", injected=loads)


@pytest.fixture
def three(program: Program, tmp_path: Path) -> Path:
    """A run with checkpoints of steps 2, 4 and 6."""
    program.run(tmp_path / "run", "--train.steps=6", "--train.checkpoint-every=2", "--train.keep-checkpoints=9")
    return tmp_path / "run"


def steps_in(run_dir: Path) -> list[int]:
    return [int(path.name[5:]) for path in checkpoint_paths(run_dir / "checkpoints")]


def test_the_newest_valid_checkpoint_is_not_removed(fault: Fault, program: Program, three: Path) -> None:
    """Row 19. Pass: if the newer checkpoints are damaged, the old valid one is kept."""
    for step in (4, 6):
        state = three / "checkpoints" / f"step_{step:08d}" / "state.json"
        state.write_bytes(state.read_bytes()[:-1])
    prune(three / "checkpoints", keep=1, keep_every=None)
    assert steps_in(three) == [6, 2]
    (three / "checkpoints" / "step_00000002" / "state.json").unlink()
    prune(three / "checkpoints", keep=1, keep_every=None)
    assert steps_in(three) == [6, 2]
    fault.row(19, "the newer checkpoints are damaged", injected=2)


def test_every_mth_checkpoint_is_kept(program: Program, three: Path) -> None:
    prune(three / "checkpoints", keep=1, keep_every=4)
    assert steps_in(three) == [6, 4]


def test_exported_weights_are_loaded(program: Program, three: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    said = program.start("export", str(three), f"--to={file}", output=tmp_path / "export.txt")
    assert said.wait() == 0, said.text()
    assert said.text() == f"{file}: the weights of step 6\n"
    finished = fastvae_tensors(three / "model.safetensors")
    exported = fastvae_tensors(file)
    assert exported.keys() == finished.keys()
    assert all(torch.equal(tensor, finished[name]) for name, tensor in exported.items())
    (three / "model.safetensors").unlink()  # as in an unfinished run
    assert all(torch.equal(t, finished[n]) for n, t in fastvae.load(three).model.state_dict().items())
    assert export_weights(three, file, step=2) == 2
    [other] = program.train(tmp_path / "other", "--train.steps=1", f"--weights={file}", "--model.latent-dim=3")
    assert other.wait() == 2
    assert "does not fit the model" in other.text()
    program.run(tmp_path / "second", "--train.steps=1", f"--weights={file}")


def test_checkpoints_are_listed(program: Program, three: Path, tmp_path: Path) -> None:
    listed = program.start("checkpoints", str(three), output=tmp_path / "listed.txt")
    assert listed.wait() == 0
    assert [line.split()[0] for line in listed.text().splitlines()] == ["step", "2", "4", "6"]
    damaged = three / "checkpoints" / "step_00000004"
    [path] = damaged.glob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    verified = program.start("checkpoints", str(three), "--verify", output=tmp_path / "verified.txt")
    assert verified.wait() == 1
    lines = verified.text().splitlines()
    assert lines[1].endswith("valid")
    assert f"NOT USABLE: {path}: does not have the size and checksum of the manifest" in lines[2]
    os.remove(path)
