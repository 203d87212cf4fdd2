"""Two models trained together: the same run under every strategy, as exact as with one model."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

import fastvae
from fastvae.distributed import DDPConfig, StrategyOptions, World, build_strategy
from fastvae.train import OptimConfig, PlayerSpec
from tests import launching
from tests.distributed.adversarial_worker import POISONED
from tests.distributed.adversary import AdversarialTask, Discriminator, SmallVAE
from tests.faults.program import Program
from tests.once import once

WORKER = Path(__file__).with_name("adversarial_worker.py")
STRATEGIES: dict[str, dict[str, Any]] = {"ddp": {"strategy": "ddp"}, "fsdp": {"strategy": "fsdp"}}
if not launching.deepspeed_lacks():
    STRATEGIES |= {f"deepspeed {stage}": {"strategy": "deepspeed", "deepspeed": {"stage": stage}} for stage in range(4)}
PLAYERS = ("generator", "discriminator")
VARIANTS: dict[str, dict[str, Any]] = {
    "accumulated": {"settings": {"accumulation": 2}, "adaptive": False},
    "poisoned": {"poison": True},
}
STEPS = 6


def jobs_of(prefix: str, settings: dict[str, Any], **changes: Any) -> list[dict[str, Any]]:
    return [
        {**variant, "run": f"{prefix}/{name}", "settings": {**settings, **variant.get("settings", {}), **changes}}
        for name, variant in VARIANTS.items()
    ]


def train(program: Program, root: Path, jobs: list[dict[str, Any]], *, ranks: int) -> None:
    path = root / f"jobs_{ranks}.json"
    path.write_text(json.dumps([{**job, "run": str(root / job["run"])} for job in jobs]))
    program.run_script(WORKER, str(path), folder=root, ranks=ranks)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, program: Program) -> Path:
    """All runs, of one process and of two; those named resumed stop after half of their steps and resume."""
    return once(tmp_path_factory, "players", lambda root: make_runs(program, root))


def make_runs(program: Program, root: Path) -> None:
    train(program, root, [*jobs_of("one", {}, accumulation=1), *resumed("one", {})], ranks=1)
    two = [jobs_of(name, settings) + resumed(name, settings) for name, settings in STRATEGIES.items()]
    train(program, root, [job for jobs in two for job in jobs], ranks=2)


def resumed(prefix: str, settings: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"run": f"{prefix}/resumed", "settings": {**settings, "steps": steps}, "poison": True}
        for steps in (STEPS // 2, STEPS)
    ]


def metrics(run: Path) -> list[dict[str, float]]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == "train"]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_ranks_train_both_models_like_one_process(runs: Path, strategy: str, variant: str) -> None:
    ours, theirs = (metrics(runs / where / variant) for where in (strategy, "one"))
    assert [record["step"] for record in ours] == list(range(1, STEPS + 1))
    for here, there in zip(ours, theirs, strict=True):
        for name in (*AdversarialTask.columns, "grad_norm", "discriminator_grad_norm"):
            expected = there[name] if there[name] is None else pytest.approx(there[name], rel=1e-5, abs=1e-6)
            assert here[name] == expected, (here["step"], name)
        for name in ("adversarial_factor", "lr", "discriminator_lr", "skipped_steps", "discriminator_skipped_steps"):
            assert here[name] == there[name]
    one = safetensors.torch.load_file(runs / "one" / variant / "last_0.safetensors")
    for rank in range(2):
        two = safetensors.torch.load_file(runs / strategy / variant / f"last_{rank}.safetensors")
        assert two.keys() == one.keys()
        for name, value in two.items():
            torch.testing.assert_close(value, one[name], atol=1e-5, rtol=0, msg=lambda m, n=name: f"{n}: {m}")


def test_the_comparison_can_fail(runs: Path) -> None:
    """Both losses affect the generator, and the weight of the second is neither 0 nor at its bounds."""
    weights = [record["adversarial_weight"] for record in metrics(runs / "one" / "poisoned")]
    assert weights[:2] == [0, 0]
    assert all(0 < weight < 50 and weight != 0.5 for weight in (weights[3], weights[5]))
    adaptive, other = (metrics(runs / "one" / variant)[-1] for variant in ("poisoned", "accumulated"))
    assert adaptive["distortion_nats"] != pytest.approx(other["distortion_nats"], rel=1e-4)


@pytest.mark.parametrize("strategy", ["one", *STRATEGIES])
def test_a_nan_of_either_player_on_one_rank_is_skipped_on_all(runs: Path, strategy: str) -> None:
    """A NaN in the reconstruction affects the discriminator, a NaN in its scores the generator: each skips one step."""
    records = metrics(runs / strategy / "poisoned")
    skipped = [(record["skipped_steps"], record["discriminator_skipped_steps"]) for record in records]
    assert skipped == [(0, 0), (0, 0), (1, 1), (1, 1), (2, 2), (2, 2)]
    lines = (runs / strategy / "poisoned" / "metrics.jsonl").read_text().splitlines()
    incidents = {(record["kind"], record["step"]) for record in map(json.loads, lines) if "skipped_" in record["kind"]}
    kinds = ("skipped_not_finite", "discriminator_skipped_not_finite")
    assert incidents == {(kind, step + 1) for kind in kinds for step in POISONED.values()}


@pytest.mark.parametrize("strategy", ["one", *STRATEGIES])
def test_a_resumed_run_is_bit_equal(runs: Path, strategy: str) -> None:
    assert_bit_equal(runs / strategy / "resumed", runs / strategy / "poisoned", 1 if strategy == "one" else 2)


def assert_bit_equal(again: Path, whole: Path, ranks: int) -> None:
    """Check the weights of both models on every rank, and the state of both players."""
    assert (again / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    for rank in range(ranks):
        assert (again / f"last_{rank}.safetensors").read_bytes() == (whole / f"last_{rank}.safetensors").read_bytes()
    ends = [run / "checkpoints" / f"step_{STEPS:08d}" for run in (again, whole)]
    states = [json.loads((end / "state.json").read_text())["players"] for end in ends]
    assert states[0] == states[1]
    assert states[0].keys() == set(PLAYERS)


@pytest.mark.parametrize(
    "strategy", ["one", *(pytest.param(name, marks=[] if name == "ddp" else pytest.mark.slow) for name in STRATEGIES)]
)
def test_a_killed_run_resumes_bit_equal(runs: Path, program: Program, tmp_path: Path, strategy: str) -> None:
    """SIGKILL of the last rank in step 5, after the discriminator's update and before the generator's."""
    run, ranks = tmp_path / "run", 1 if strategy == "one" else 2
    settings = {**STRATEGIES.get(strategy, {}), "checkpoint_every": 1}
    (tmp_path / "jobs.json").write_text(json.dumps([{"run": str(run), "settings": settings, "poison": True}]))
    hooks = {ranks - 1: "tests.distributed.adversary:update 10 SIGKILL"}
    words = (WORKER, str(tmp_path / "jobs.json"))
    killed = program.start_ranks(*words, folder=tmp_path, ranks=ranks, hooks=hooks)
    assert [process.wait() for process in killed] == [1] * (ranks - 1) + [-signal.SIGKILL], killed[0].text()[-4000:]
    assert [record["step"] for record in metrics(run)][-1] < STEPS
    program.run_script(*words, folder=tmp_path, ranks=ranks)
    text = (tmp_path / f"{WORKER.stem}_{ranks}.rank0.txt").read_text()
    assert re.search(r"from the checkpoint of step [34]\b", text), text[-4000:]
    assert_bit_equal(run, runs / strategy / "poisoned", ranks)


def test_one_checkpoint_holds_every_tensor_of_both_models(runs: Path) -> None:
    names = set()
    for path in (runs / "fsdp" / "resumed" / "checkpoints" / f"step_{STEPS:08d}").glob("*.safetensors"):
        names |= safetensors.torch.load_file(path).keys()
    for kind in ("model.0.weight", "optimizer.state.0.weight.exp_avg", "averages.0.weight"):
        assert f"discriminator.{kind}" in names
    assert {
        "generator.model.output.weight",
        "generator.averages.output.bias",
        "generator.replicated.real_level",
    } <= names


def test_the_weights_of_a_run_are_those_of_the_generator(runs: Path, tmp_path: Path) -> None:
    assert fastvae.train.export_weights(runs / "ddp" / "resumed", tmp_path / "weights.safetensors") == STEPS
    exported = safetensors.torch.load_file(tmp_path / "weights.safetensors")
    finished = safetensors.torch.load_file(runs / "ddp" / "resumed" / "model.safetensors")
    assert exported.keys() == finished.keys()
    assert all(torch.equal(value, finished[name]) for name, value in exported.items())


def test_unsuitable_settings_and_players_are_refused(tmp_path: Path) -> None:
    options = StrategyOptions(ddp=DDPConfig(static_graph=True), num_players=2)
    with pytest.raises(ValueError, match=r"train\.ddp\.static_graph does not support a task that trains two models"):
        build_strategy("ddp", World(world_size=2), options)
    with pytest.raises(ValueError, match=r"PlayerSpec: name must be letters, digits and underscores, got 'a\.b'"):
        PlayerSpec(name="a.b", model=nn.Identity())
    task = AdversarialTask(Discriminator(12), OptimConfig())
    task.opponents = (PlayerSpec(name="generator", model=Discriminator(12)),)
    with pytest.raises(ValueError, match="must have different names, got generator, generator"):
        fastvae.train(SmallVAE(12), torch.rand(40, 12), task=task, run_dir=tmp_path)


def test_a_run_with_other_players_is_refused(tmp_path: Path) -> None:
    config = fastvae.TrainConfig(steps=1, global_batch_size=8, final_samples=1, device="cpu")
    data = torch.rand(40, 12)
    fastvae.train(SmallVAE(12), data, config, run_dir=tmp_path / "elbo")
    task = AdversarialTask(Discriminator(12), OptimConfig())
    with pytest.raises(ValueError, match=r"another task \(was the task 'elbo', now task=AdversarialTask\(\.\.\.\)\)"):
        fastvae.train(SmallVAE(12), data, config, task=task, run_dir=tmp_path / "elbo")
    fastvae.train(SmallVAE(12), data, config, task=task, run_dir=tmp_path / "adversarial")
    with pytest.raises(
        ValueError, match=r"was task=AdversarialTask\(\.\.\.\), now the task 'elbo'.*give the same"
    ) as caught:
        fastvae.train(SmallVAE(12), data, config, run_dir=tmp_path / "adversarial")
    assert "opponents" not in str(caught.value)
    other = AdversarialTask(Discriminator(12), OptimConfig(lr=0.5))
    with pytest.raises(
        ValueError, match=r"other settings \(opponents\.discriminator\.optim\.lr was 0\.001, now 0\.5\)"
    ):
        fastvae.train(SmallVAE(12), data, config, task=other, run_dir=tmp_path / "adversarial")


def test_frozen_parameters_get_no_gradient_until_unfrozen() -> None:
    strategy = build_strategy("single", World())
    strategy.setup(nn.Linear(3, 1), lambda named: torch.optim.Adam([p for _, p in named]))
    fixed = strategy.trained.bias
    fixed.requires_grad_(False)
    x = torch.ones(2, 3, requires_grad=True)
    with strategy.frozen() as module:
        module(x).sum().backward()
    assert x.grad is not None
    assert strategy.trained.weight.grad is None
    assert [p.requires_grad for p in strategy.trained.parameters()] == [True, False]
