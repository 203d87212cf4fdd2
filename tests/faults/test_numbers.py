"""Non-finite numbers under every strategy: all ranks skip the step together, or stop together with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import launching
from tests.faults.program import Program
from tests.faults.table import Fault
from tests.once import once
from tests.runs import metrics

WORKER = Path(__file__).with_name("numbers_worker.py")
STRATEGIES: dict[str, dict[str, Any]] = {"one process": {}, "ddp": {"strategy": "ddp"}, "fsdp": {"strategy": "fsdp"}}
if not launching.deepspeed_lacks():
    STRATEGIES |= {f"deepspeed {stage}": {"strategy": "deepspeed", "deepspeed": {"stage": stage}} for stage in range(4)}

QUICK = ("one process", "ddp", "fsdp", "deepspeed 2", "deepspeed 3")  # each strategy skips differently

SKIPPED = {12: "nan", 14: "infinite loss", 15: "nan", 20: "batch times 1e4", 25: "target times 1e3"}
DIVERGING = dict.fromkeys(range(5, 20), "faulty module")


def is_full(config: pytest.Config) -> bool:
    return bool(config.getoption("--faults-full", default=False))


@pytest.fixture
def strategy(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name not in QUICK and not is_full(request.config):
        pytest.skip("in `make faults` only")
    return name


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config, program: Program) -> Path:
    """All runs: one program of one process, one of two."""
    full = is_full(pytestconfig)
    chosen = STRATEGIES if full else {name: STRATEGIES[name] for name in QUICK if name in STRATEGIES}
    return once(tmp_path_factory, "numbers", lambda root: make_runs(program, root, chosen))


def make_runs(program: Program, root: Path, chosen: dict[str, dict[str, Any]]) -> None:
    jobs = [
        {"run": str(root / name / case), "settings": {**settings, **more}, "faults": faults}
        for name, settings in chosen.items()
        for case, faults, more in (
            ("skipped", SKIPPED, {}),
            ("diverged", DIVERGING, {"accumulation": 2}),
            ("debugged", DIVERGING, {"debug_numerics": True}),
        )
    ]
    for ranks in (1, 2):
        path = root / f"jobs_{ranks}.json"
        path.write_text(json.dumps([job for job in jobs if ("one process" in job["run"]) == (ranks == 1)]))
        program.run_script(WORKER, str(path), folder=root, ranks=ranks)


def results(run: Path) -> list[dict[str, Any]]:
    """The results of each rank."""
    return [json.loads(path.read_text()) for path in sorted(run.glob("rank_*.json"))]


@pytest.mark.parametrize("strategy", STRATEGIES, indirect=True)
def test_a_nonfinite_step_changes_no_parameter_on_any_rank(runs: Path, strategy: str, fault: Fault) -> None:
    """Rows 13 and 14: a NaN, an infinite loss with finite gradients, and a batch times 1e4; the clean steps count."""
    run = runs / strategy / "skipped"
    for seen in results(run):
        assert seen["ended"] == "done"
        assert [step for step, changed in enumerate(seen["changed"]) if not changed] == sorted(SKIPPED)
    kinds = {r["step"] - 1: r["kind"] for r in metrics(run) if r["kind"].startswith("skipped")}
    assert sorted(kinds) == sorted(SKIPPED)
    assert kinds[12] == kinds[14] == kinds[15] == "skipped_not_finite"
    assert kinds[25] == "skipped_spike"
    assert [r["skipped_steps"] for r in metrics(run) if r["kind"] == "train"][-1] == len(SKIPPED)
    fault.row(13, f"NaN or infinite loss on one rank ({strategy})", injected=3, lost="the step")
    fault.row(14, f"loss spike: a batch times 1e4 ({strategy})", injected=2, lost="the step")


@pytest.mark.parametrize("strategy", STRATEGIES, indirect=True)
def test_several_nonfinite_steps_in_a_row_stop_all_ranks_with_the_reason(
    runs: Path, strategy: str, fault: Fault
) -> None:
    """Row 13. Pass: all ranks stop at the step; the error names rank, module, terms and parameters, and a remedy."""
    run = runs / strategy / "diverged"
    messages = {seen["ended"] for seen in results(run)}
    [message] = messages
    assert message.startswith("train: loss or gradient was not finite at the last 3 steps, up to step 8, ")
    assert ("rank 1: " in message) == (strategy != "one process")
    assert "the first module to produce it was module decoder." in message
    assert "(FaultyLinear) in its forward; not finite: distortion, loss, gradient of encoder." in message
    assert "lower --train.lr" in message
    for seen in results(run):
        assert seen["changed"] == [True] * 5 + [False] * 3
    status = json.loads((run / "status.json").read_text())
    assert status["state"] == "failed"
    assert message in status["reason"]
    fault.row("13b", f"NaN on one rank without end ({strategy})", injected=1, lost="none: no weight changed")


@pytest.mark.parametrize("strategy", STRATEGIES, indirect=True)
def test_debugging_stops_at_the_first_nonfinite_step(runs: Path, strategy: str) -> None:
    [message] = {seen["ended"] for seen in results(runs / strategy / "debugged")}
    assert message.startswith("train: loss or gradient was not finite at step 6, ")
    assert "(FaultyLinear) in its forward" in message
