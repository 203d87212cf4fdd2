"""The float32 matrix products of a training step: PyTorch's choice of library compared with the trainer's."""

from __future__ import annotations

import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fastvae.bench import options_parser, report, this_machine
from fastvae.train.matmul import matmul_library

# (rows, inner, columns) of the textbook network, then smaller products down to those dominated by call overhead
SHAPES = (
    (128, 784, 400),
    (128, 400, 784),
    (400, 128, 784),
    (128, 200, 200),
    (512, 64, 64),
    (128, 400, 20),
    (128, 20, 400),
    (10, 64, 64),
)
_LARGE = nn.Linear(4096, 4096, device="meta")  # large enough for the trainer to switch the library


def measure(shape: tuple[int, int, int], *, rounds: int) -> dict[str, Any]:
    """Measure the median time of both libraries, interleaved in random order."""
    rows, inner, columns = shape
    x, weight, out = torch.randn(rows, inner), torch.randn(columns, inner), torch.empty(rows, columns)
    times: dict[str, list[float]] = {"default": [], "auto": []}
    order = random.Random(0)
    for turn in range(rounds + 3):
        for choice in order.sample(list(times), 2):
            with matmul_library(choice, _LARGE, rows, torch.device("cpu")) as library:  # type: ignore[arg-type]
                start = time.perf_counter()
                torch.mm(x, weight.T, out=out)
                seconds = time.perf_counter() - start
            if turn >= 3:
                times[choice].append(seconds)
    microseconds = {choice: 1e6 * statistics.median(values) for choice, values in times.items()}
    return {
        "rows": rows,
        "inner": inner,
        "columns": columns,
        "pytorch_us": microseconds["default"],
        "trainer_us": microseconds["auto"],
        "trainer_library": library,
        "ratio": microseconds["default"] / microseconds["auto"],
    }


@pytest.mark.parametrize("shape", SHAPES[-2:], ids=str)
def test_matmul(shape: tuple[int, int, int], benchmark: Any) -> None:
    row = benchmark(measure, shape, rounds=2)
    benchmark.extra_info |= row
    assert row["pytorch_us"] > 0
    assert row["trainer_us"] > 0


def main() -> int:
    description = "Measure float32 matrix products of two libraries."
    options = options_parser(description, Path(__file__).parent / "results").parse_args()
    rows = [measure(shape, rounds=400) for shape in SHAPES]
    lines = [
        [f"[{row['rows']}, {row['inner']}] x [{row['inner']}, {row['columns']}]"]
        + [f"{row[name]:.1f}" for name in ("pytorch_us", "trainer_us")]
        + [f"{row['ratio']:.2f}", row["trainer_library"]]
        for row in rows
    ]
    header = ["product", "PyTorch's choice, us", "trainer's, us", "ratio", "trainer's library"]
    tables = [report.markdown(header, lines), "The trainer switches the library only if a model's products are large."]
    print("\n\n".join(tables))
    if options.out is not None:
        machine = this_machine("cpu")
        path = report.write_page(options.out, "matmul", machine, tables, "Made by `python benchmarks/bench_matmul.py`.")
        report.write_rows(path.with_suffix(".csv"), rows, machine)
        print(f"\nwritten: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
