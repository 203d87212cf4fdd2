"""The benchmark harness: derived numbers, baselines that compute the same results, and complete result files."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from fastvae import bench, cli
from fastvae.bench import EAGER, LIMIT, OURS, Bar, Case, Goal, report
from fastvae.bench.machine import this_machine
from fastvae.ops import _native

ROOT = Path(__file__).parents[1]
SMALL = {
    "gaussian_rsample_kl": (6, 5),
    "gaussian_rsample_log_ratio": (3, 6, 5),
    "bernoulli_nll": (6, 5),
    "gaussian_nll": (6, 5),
    "discretized_logistic_nll": (6, 5),
    "multinomial_nll": (4, 400),
}


class Clock:
    """A simulated clock that only advances in the timed calls."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[float] = []

    def call_of(self, seconds: float) -> Callable[[], tuple[Tensor, ...]]:
        def call() -> tuple[Tensor, ...]:
            self.log.append(seconds)
            self.now += seconds
            return ()

        return call


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    return clock


def case_of(calls: dict[str, Callable[[], tuple[Tensor, ...]]]) -> Case:
    return Case(
        operator="sleep",
        part="forward",
        shape=(10, 100),
        dtype=torch.float32,
        device=torch.device("cpu"),
        calls=calls,
        elements=1000,
        num_bytes=12_000,
        limit_bytes=4_000,
    )


def test_ratios_are_computed_from_the_times(clock: Clock) -> None:
    case = case_of({OURS: clock.call_of(0.004), EAGER: clock.call_of(0.012), LIMIT: clock.call_of(0.002)})
    result = bench.measure(case, budget_s=0.0, min_rounds=9)
    ours, limit = result.timings[OURS].p50_us, result.timings[LIMIT].p50_us
    assert ours == pytest.approx(4e3)
    assert result.speedup(EAGER) == pytest.approx(3)
    assert result.gb_per_s() == pytest.approx(12e3 / ours / 1e3)
    assert result.elements_per_s() == pytest.approx(1e9 / ours)
    assert result.share_of_limit() == pytest.approx((12e3 / ours) / (4e3 / limit))
    assert result.timings[OURS].p20_us <= ours <= result.timings[OURS].p80_us
    assert Bar(LIMIT, 0.5).measured(result) == result.share_of_limit()
    assert Bar(EAGER, 2).measured(result) == result.speedup(EAGER)


def test_calls_are_interleaved(clock: Clock) -> None:
    log, slow, quick = clock.log, clock.call_of(0.003), clock.call_of(0.002)
    bench.measure(case_of({OURS: slow, LIMIT: quick}), budget_s=0.0, min_rounds=10, max_rounds=10)
    turns = [tuple(sorted(log[i : i + 2])) for i in range(len(log) - 20, len(log), 2)]
    assert turns == [(0.002, 0.003)] * 10


def test_short_calls_are_timed_in_batches(clock: Clock) -> None:
    calls = {OURS: clock.call_of(1e-7), LIMIT: clock.call_of(1e-7)}
    result = bench.measure(case_of(calls), budget_s=0.0, min_rounds=2, max_rounds=2)
    assert result.timings[OURS].num_calls > 1000
    assert result.timings[OURS].p50_us == pytest.approx(0.1)


@pytest.mark.parametrize("operator", bench.OPERATORS)
@pytest.mark.parametrize("part", ["forward", "backward", "forward+backward"])
def test_baselines_compute_the_same_results(operator: str, part: str) -> None:
    for variant in bench.OPERATORS[operator].variants:
        case = bench.build_case(operator, part, SMALL[operator], variant=variant, with_reference=True)
        ours, theirs = case.calls[OURS](), case.calls[EAGER]()
        assert [tensor.shape for tensor in ours] == [tensor.shape for tensor in theirs]
        for position in case.equal:
            torch.testing.assert_close(ours[position], theirs[position], rtol=1e-3, atol=1e-3)
        if part == "forward":
            for mine, plain in zip(ours, case.calls["reference"](), strict=True):
                torch.testing.assert_close(mine, plain, rtol=1e-4, atol=1e-4)


def test_byte_counts_are_those_of_one_pass_over_memory() -> None:
    forward = bench.build_case("gaussian_rsample_kl", "forward", (8, 4))
    both = bench.build_case("gaussian_rsample_kl", "forward+backward", (8, 4), torch.bfloat16)
    assert (forward.num_bytes, forward.limit_bytes, forward.elements) == (12 * 32, 12 * 32, 32)
    assert both.num_bytes == (6 + 10) * 32


def test_benchmark_goals_run_without_timing(benchmark: Callable[..., object]) -> None:
    bench.check_and_benchmark(bench.goal(Bar(EAGER, 1), operator="bernoulli_nll", shape=(6, 5)), benchmark)


def test_a_wrong_result_fails_the_benchmark() -> None:
    right = bench.build_case("bernoulli_nll", "forward", (6, 5))
    wrong = {**right.calls, OURS: lambda: (right.calls[OURS]()[0] * 1.1,)}
    goal = Goal(name="wrong", build=lambda: case_with(right, wrong))
    with pytest.raises(AssertionError):
        bench.check_and_benchmark(goal, benchmark=None)


def case_with(case: Case, calls: dict[str, Callable[[], tuple[Tensor, ...]]]) -> Case:
    import dataclasses

    return dataclasses.replace(case, calls=calls)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"operator": "bernoulli"}, "operator .*gaussian_rsample_kl.*'bernoulli'"),
        ({"operator": "bernoulli_nll", "part": "sideways"}, "part .*forward.*'sideways'"),
        ({"operator": "bernoulli_nll", "shape": (3,)}, r"shape .*B D.*\[3\]"),
        ({"operator": "gaussian_nll", "variant": "none"}, "variant .*'scalar'.*'none'"),
    ],
)
def test_unknown_cases_are_refused(arguments: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        bench.build_case(**arguments)  # type: ignore[arg-type]


def test_command_prints_json_and_writes_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [f"--csv={tmp_path / 'a.csv'}", f"--plot={tmp_path / 'a.png'}"]
    command = ["bench", "multinomial_nll", "--shape", "8", "30", "--seconds=0.01", "--json", *files]
    assert cli.main(command) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {"hardware", "threads", "versions", "backend", "load"} <= printed["machine"].keys()
    rows = printed["results"]
    assert {row["part"] for row in rows} == {"forward", "forward+backward"}
    assert {row["call"] for row in rows} == {OURS, EAGER, LIMIT, "reference"}
    assert all(row["shape"] == "8x30" and row["p20_us"] <= row["p50_us"] <= row["p80_us"] for row in rows)
    with (tmp_path / "a.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [row["call"] for row in written] == [row["call"] for row in rows]
    assert float(written[0]["p50_us"]) == rows[0]["p50_us"]
    assert written[0]["hardware"] == printed["machine"]["hardware"]
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size[0] > 500


def test_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "noise", "--shape", "16", "16", "--seconds=0.01", "--dtype=float32"]) == 0
    printed = capsys.readouterr().out
    for expected in ("hardware:", "torch 2.", "noise forward 16x16 float32", "eager", "of limit", "GB/s"):
        assert expected in printed


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["bernouli_nll"], "'bernouli_nll'"),
        (["--shape", "3", "4"], "--shape"),
        (["bernoulli_nll", "--shape", "3"], "[3]"),
    ],
)
def test_command_errors_are_one_line(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", *words]) == 2
    message = capsys.readouterr().err
    assert complaint in message
    assert message.count("\n") == 1


def test_the_table_of_requirements_has_the_measured_values(clock: Clock) -> None:
    case = case_of({OURS: clock.call_of(0.002), EAGER: clock.call_of(0.01), LIMIT: clock.call_of(0.002)})
    result = bench.measure(case, budget_s=0.0, min_rounds=5)
    goal = Goal(name="sleep", build=lambda: case, bars=(Bar(EAGER, 2, aim=3), Bar(EAGER, 50), Bar(LIMIT, 0.1)))
    lines = report.bar_table([(goal, result)]).splitlines()[2:]
    assert [("reached" in line, "MISSED" in line) for line in lines] == [(True, False), (False, True), (True, False)]
    assert report.bar_table([(Goal(name="none", build=lambda: case), result)]) == ""


def test_a_script_writes_its_results(tmp_path: Path) -> None:
    script = ROOT / "benchmarks" / "bench_gaussian_rsample_log_ratio.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), "--seconds=0.01", f"--out={tmp_path}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    machine = this_machine()
    page = tmp_path / f"gaussian_rsample_log_ratio_{machine.slug}_{machine.month}.md"
    assert f"written: {page}" in done.stdout
    assert "| gaussian_rsample_log_ratio forward 50x128x50 float32 " in page.read_text()
    assert page.with_suffix(".csv").is_file()


def test_a_gpus_backend_is_native_only_with_cuda_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    monkeypatch.setattr(_native, "loaded", True)
    monkeypatch.setattr(_native, "cuda_loaded", False)
    monkeypatch.setattr(_native, "cuda_reason", "planted")
    assert this_machine("cuda").backend == "reference (planted)"


@pytest.mark.gpu
def test_cuda_cases_measure_events_and_memory() -> None:
    case = bench.build_case("gaussian_rsample_kl", "forward+backward", (64, 20), device="cuda", captured=True)
    result = bench.measure(case, budget_s=0.1)
    assert result.timings[OURS].peak_mib is not None
    assert case.limit_bytes == 2 * 4 * 64 * 20
