"""Every strategy gives the same training run as one process: losses, gradients, weights, noise, checkpoints."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tests import launching
from tests.faults.program import Program
from tests.once import once
from tests.runs import metrics

WORKER = Path(__file__).with_name("strategy_worker.py")

# Largest differences from the run of one process, 8 steps of Adam at 1e-3, by precision: (relative, of the first
# step's loss and gradient norm; relative, of the last loss; absolute, of a weight). In bf16 a gradient is rounded in
# every micro-batch, so a weight whose gradient is near 0 may move in the other direction: Adam moves it by lr per step.
TOLERANCES = {"fp32": (2e-6, 1e-6, 2e-6), "bf16": (2e-3, 2e-3, 1e-2)}
STRATEGIES: dict[str, dict[str, Any]] = {
    "ddp": {"strategy": "ddp"},
    "fsdp": {"strategy": "fsdp"},
}
HAS_DEEPSPEED = not launching.deepspeed_lacks()
if HAS_DEEPSPEED:
    STRATEGIES |= {f"deepspeed {stage}": {"strategy": "deepspeed", "deepspeed": {"stage": stage}} for stage in range(4)}
ACCUMULATIONS, CLIPS = (1, 4), (None, 1.0)

VARIANTS: dict[str, dict[str, Any]] = {  # settings that must not change the result either
    "replicas checked": {"strategy": "ddp", "check_replicas": 1},
    "small buckets": {"strategy": "ddp", "ddp": {"bucket_mib": 0.001}},
    "static graph": {"strategy": "ddp", "ddp": {"static_graph": True}},
    "fsdp offloaded": {"strategy": "fsdp", "fsdp": {"cpu_offload": True}},
    "fsdp not freed": {"strategy": "fsdp", "fsdp": {"reshard_after_forward": False}},
}


def key_of(precision: str, clip: float | None) -> str:
    return f"{precision}_{clip}"


SETTINGS = list(itertools.product(TOLERANCES, ACCUMULATIONS, CLIPS))
# Every pair of values occurs in one of these; the other four triples are slow: they repeat the pairs.
QUICK = [("fp32", 1, None), ("fp32", 4, 1.0), ("bf16", 1, 1.0), ("bf16", 4, None)]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, program: Program) -> Path:
    """The runs of one process in one program, those of two ranks in another."""
    return once(tmp_path_factory, "strategies", lambda root: make_runs(program, root))


@pytest.fixture(scope="session")
def more_runs(tmp_path_factory: pytest.TempPathFactory, program: Program) -> Path:
    """The runs of two ranks with the other settings."""
    others = [triple for triple in SETTINGS if triple not in QUICK]
    return once(tmp_path_factory, "more_strategies", lambda root: train(program, root, matrix(others), ranks=2))


def matrix(triples: Sequence[tuple[str, int, float | None]]) -> list[dict[str, Any]]:
    """Jobs of every strategy with these settings."""
    jobs = []
    for strategy, (precision, accumulation, clip) in itertools.product(STRATEGIES, triples):
        settings = {"precision": precision, "accumulation": accumulation, "max_grad_norm": clip}
        run = f"{strategy}/{key_of(precision, clip)}_{accumulation}"
        jobs.append({"run": run, "settings": {**STRATEGIES[strategy], **settings}})
    return jobs


def make_runs(program: Program, root: Path) -> None:
    one = [
        {"run": f"one/{key_of(p, c)}", "settings": {"precision": p, "max_grad_norm": c}}
        for p, c in itertools.product(TOLERANCES, CLIPS)
    ]
    one += [
        {"run": "one/poison", "settings": {}, "poison_step": 3},
        {"run": "one/free bits", "settings": {"objective": {"free_bits": 0.05}}},
    ]
    two = matrix(QUICK)
    for strategy, settings in STRATEGIES.items():
        two.append({"run": f"{strategy}/poison", "settings": settings, "poison_step": 3})
        free_bits = {"accumulation": 2, "objective": {"free_bits": 0.05}}
        two.append({"run": f"{strategy}/free bits", "settings": {**settings, **free_bits}})
    two += [{"run": f"variants/{name}", "settings": settings} for name, settings in VARIANTS.items()]
    two.append({"run": "compressed", "settings": {"strategy": "ddp", "ddp": {"compress_gradients": True}}})
    train(program, root, one, ranks=1)
    train(program, root, two, ranks=2)


def train(program: Program, root: Path, jobs: list[dict[str, Any]], *, ranks: int) -> None:
    path = root / f"jobs_{ranks}.json"
    path.write_text(json.dumps([{**job, "run": str(root / job["run"])} for job in jobs]))
    program.run_script(WORKER, str(path), folder=root, ranks=ranks)


def assert_same_run(run: Path, one: Path, precision: str = "fp32") -> None:
    first, last, weight = TOLERANCES[precision]
    ours, theirs = metrics(run, "train"), metrics(one, "train")
    for name in ("loss_nats", "rate_nats", "distortion_nats", "grad_norm"):
        assert ours[0][name] == pytest.approx(theirs[0][name], rel=first), name
    if theirs[-1]["loss_nats"] is not None:
        assert ours[-1]["loss_nats"] == pytest.approx(theirs[-1]["loss_nats"], rel=last)
    assert ours[-1]["skipped_steps"] == theirs[-1]["skipped_steps"]
    assert_weights(run, one, atol=weight)
    noise = [safetensors.torch.load_file(path / "noise.safetensors")["noise"] for path in (run, one)]
    assert torch.equal(*noise)
    assert noise[0].unique().numel() == noise[0].numel()


def assert_weights(run: Path, one: Path, *, atol: float) -> None:
    ours, theirs = (safetensors.torch.load_file(path / "model.safetensors") for path in (run, one))
    assert ours.keys() == theirs.keys()
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], atol=atol, rtol=0, msg=lambda m, n=name: f"{n}: {m}")
    left = safetensors.torch.load_file(run / "left_in_the_model.safetensors")
    for name in ours:
        assert torch.equal(left[name], ours[name]), name


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    ("precision", "accumulation", "clip"),
    [pytest.param(*triple, marks=[] if triple in QUICK else pytest.mark.slow) for triple in SETTINGS],
)
def test_strategies_match_one_process(
    request: pytest.FixtureRequest,
    runs: Path,
    strategy: str,
    precision: str,
    accumulation: int,
    clip: float | None,
) -> None:
    two = runs if (precision, accumulation, clip) in QUICK else request.getfixturevalue("more_runs")
    run = two / strategy / f"{key_of(precision, clip)}_{accumulation}"
    assert_same_run(run, runs / "one" / key_of(precision, clip), precision)


def test_tolerances_detect_changed_settings(runs: Path) -> None:
    """Clipping and precision each change the result by more than its tolerance."""
    for other in (key_of("fp32", 1.0), key_of("bf16", None)):
        with pytest.raises(AssertionError):
            assert_same_run(runs / "one" / other, runs / "one" / key_of("fp32", None))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_nan_on_one_rank_is_skipped_on_all(runs: Path, strategy: str) -> None:
    assert metrics(runs / strategy / "poison", "train")[-1]["skipped_steps"] == 1
    assert_weights(runs / strategy / "poison", runs / "one" / "poison", atol=2e-6)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_free_bits_are_reduced_before_the_first_backward(runs: Path, strategy: str) -> None:
    assert_same_run(runs / strategy / "free bits", runs / "one" / "free bits")


@pytest.mark.parametrize("variant", VARIANTS)
def test_options_do_not_change_the_result(runs: Path, variant: str) -> None:
    assert_same_run(runs / "variants" / variant, runs / "one" / key_of("fp32", None))


def test_compressed_gradients_are_close(runs: Path) -> None:
    ours, theirs = metrics(runs / "compressed", "train"), metrics(runs / "one" / key_of("fp32", None), "train")
    assert ours[0]["grad_norm"] == pytest.approx(theirs[0]["grad_norm"], rel=4e-3)
    assert ours[0]["grad_norm"] != pytest.approx(theirs[0]["grad_norm"], rel=1e-6)
    assert ours[-1]["loss_nats"] == pytest.approx(theirs[-1]["loss_nats"], rel=1e-4)


def test_diverged_replicas_are_detected_and_named(tmp_path: Path) -> None:
    job = {"run": str(tmp_path / "run"), "settings": {"strategy": "ddp", "check_replicas": 2}, "drift_step": 5}
    (tmp_path / "jobs.json").write_text(json.dumps([job]))
    result = launching.run([str(WORKER), str(tmp_path / "jobs.json")], num_processes=2, check=False)
    assert result.returncode != 0
    assert "check_replicas: 1 of 15 parameters differ between ranks, the first is decoder.output.bias" in result.stderr
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["state"], status["step"]) == ("failed", 6)


CHAINS = {  # (strategy, ranks) of each third of a run
    "ddp, single, fsdp": [("ddp", 2), ("auto", 1), ("fsdp", 2)],
    "fsdp, single, ddp": [("fsdp", 2), ("auto", 1), ("ddp", 2)],
    "fsdp throughout": [("fsdp", 2), ("fsdp", 2), ("fsdp", 2)],
}
if HAS_DEEPSPEED:
    CHAINS |= {
        "deepspeed 2 throughout": [("deepspeed 2", 2)] * 3,
        "deepspeed 2, single, deepspeed 3": [("deepspeed 2", 2), ("auto", 1), ("deepspeed 3", 2)],
        "deepspeed 3, ddp, deepspeed 1": [("deepspeed 3", 2), ("ddp", 2), ("deepspeed 1", 2)],
        "fsdp, deepspeed 0, deepspeed 2": [("fsdp", 2), ("deepspeed 0", 2), ("deepspeed 2", 2)],
    }


THROUGHOUT = [name.removesuffix(" throughout") for name in CHAINS if name.endswith(" throughout")]


def test_deepspeed_is_installed() -> None:
    """Report as skipped the cases with DeepSpeed if it is not installed."""
    if not HAS_DEEPSPEED:
        pytest.skip(launching.deepspeed_lacks())


@pytest.fixture(scope="session")
def chains(tmp_path_factory: pytest.TempPathFactory, program: Program) -> Path:
    return once(tmp_path_factory, "chains", lambda root: make_chains(program, root))


def make_chains(program: Program, root: Path) -> None:
    """Train every chain by thirds; a third's runs of one process and of two are one program each."""
    train(program, root, [{"run": "one", "settings": {"steps": 12}}], ranks=1)
    whole = [{"run": f"{name} whole", "settings": {**STRATEGIES[name], "steps": 12}} for name in THROUGHOUT]
    for third in range(3):
        for num_ranks in (1, 2):
            jobs = [
                {"run": name, "settings": {**STRATEGIES.get(strategy, {}), "steps": 4 * (third + 1)}}
                for name, chain in CHAINS.items()
                for strategy, ranks in [chain[third]]
                if ranks == num_ranks
            ]
            jobs += whole if third == 0 and num_ranks == 2 else []
            if jobs:
                train(program, root, jobs, ranks=num_ranks)


@pytest.mark.parametrize("chain", CHAINS)
def test_checkpoints_move_between_strategies_and_world_sizes(chains: Path, chain: str) -> None:
    """Weights (the averaged ones) and losses are those of an uninterrupted run of one process."""
    assert [record["step"] for record in metrics(chains / chain, "train")] == list(range(1, 13))
    for ours, theirs in zip(metrics(chains / chain, "train"), metrics(chains / "one", "train"), strict=True):
        assert ours["loss_nats"] == pytest.approx(theirs["loss_nats"], rel=1e-5)
    assert_weights(chains / chain, chains / "one", atol=5e-6)


@pytest.mark.parametrize("strategy", THROUGHOUT)
def test_a_resume_under_the_same_strategy_is_bit_equal(chains: Path, strategy: str) -> None:
    stopped, whole = (chains / f"{strategy} {how}" / "model.safetensors" for how in ("throughout", "whole"))
    assert stopped.read_bytes() == whole.read_bytes()
