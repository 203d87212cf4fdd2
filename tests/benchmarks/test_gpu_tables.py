"""The CSV rows of run_gpu.sh's programs and the tables that are made from them."""

from __future__ import annotations

import csv
from pathlib import Path

import gpu_bars
import gpu_cases
import pytest
import torch
from gpu_rows import CHECKS, KERNELS, TRAIN_STEP, append_row, read_rows, record_check
from gpu_tables import collect, write_pages

from fastvae import bench

FACTS = {"hardware": "NVIDIA X1", "date": "2026-11-30T10:00Z"}


def test_call_names_agree_with_the_harness() -> None:
    for name in ("OURS", "EAGER", "COMPILED", "LIMIT"):
        assert getattr(gpu_bars, name) == getattr(bench, name)


def test_all_variants_are_measured_forward_and_backward_in_both_dtypes() -> None:
    cases = {(case.operator, case.variant, case.part, case.dtype) for case in gpu_cases.in_parts("forward", "backward")}
    for operator, known in bench.OPERATORS.items():
        for variant in known.variants:
            for part in ("forward", "backward"):
                assert {(operator, variant, part, dtype) for dtype in (torch.float32, torch.bfloat16)} <= cases


def kernel_row(call: str, p50_us: float, times_ours: float, share: float = 0.85) -> dict[str, object]:
    case = {"operator": "gaussian_rsample_kl", "variant": "", "part": "forward", "shape": "65536x512"}
    times = {"dtype": "float32", "call": call, "p20_us": p50_us, "p50_us": p50_us, "p80_us": p50_us}
    return {**case, **times, "gb_per_s": 4e8 / p50_us, "share_of_limit": share, "times_ours": times_ours, **FACTS}


def test_append_row_writes_immediately_and_refuses_other_columns(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.csv"
    append_row(path, {"a": 1, "b": "two, three"})
    append_row(path, {"a": 4, "b": 'a "quoted" word'})
    assert read_rows(path) == [{"a": "1", "b": "two, three"}, {"a": "4", "b": 'a "quoted" word'}]
    with pytest.raises(ValueError, match=r"rows\.csv: .*\['c'\], got \['a', 'b'\]"):
        append_row(path, {"c": 1})


def test_the_table_has_the_ratios_of_all_calls(tmp_path: Path) -> None:
    for row in (
        kernel_row("fastvae", 100.0, 1.0),
        kernel_row("limit", 250.0, 2.5),
        kernel_row("fastvae", 110.0, 1.0, share=0.95),  # measured again together with eager
        kernel_row("eager", 660.0, 6.0),
        kernel_row("compiled", 99.0, 0.9),
    ):
        append_row(tmp_path / KERNELS, row)
    write_pages(tmp_path)
    page = (tmp_path / "kernels.md").read_text()
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if "65536x512" in line]
    name = "gaussian_rsample_kl forward 65536x512 float32"
    assert lines == [
        [name, ">= 90% of the copy", "95% of the copy", "reached"],
        [name, ">= 5.00 x eager", "6.00 x eager", "reached"],
        [name, ">= 1.00 x compiled", "0.90 x compiled", "MISSED"],
        [name, "110.0", "110.0", "110.0", "3,636,364", "95%", "6.00", "0.90"],
    ]


def test_a_later_run_replaces_repeated_measurements(tmp_path: Path) -> None:
    first, second, out = tmp_path / "first", tmp_path / "second", tmp_path / "results"
    for folder, rates in (
        (first, {"eager loop": 100.0, "fastvae.train, captured": 300.0}),
        (second, {"eager loop": 50.0}),
    ):
        for name, rate in rates.items():
            for turn in (0, 1):
                row = {"network": "textbook", "contender": name, "turn": turn, "images_per_s": rate * turn, **FACTS}
                append_row(folder / TRAIN_STEP, row)
    record_check(first, "machine", "hardware", "ok", "NVIDIA X1")
    record_check(first, "digits", "resume", "FAILED", "the run\ndid not go on")
    record_check(second, "digits", "resume", "ok", "bit for bit")
    pages = collect([first, second], out)
    assert [path.name for path in pages] == ["train_step_nvidia-x1_202611.md", pages[1].name]
    assert pages[1].name.startswith("checks_nvidia-x1_")
    assert "| textbook: fastvae.train, captured | >= 5.00 x eager loop | 6.00     | reached |" in pages[0].read_text()
    with pages[1].with_suffix(".csv").open(newline="") as file:
        assert [row["verdict"] for row in csv.DictReader(file)] == ["ok", "ok"]
    assert read_rows(first / CHECKS)[1]["detail"] == "the run did not go on"
