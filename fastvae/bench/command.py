"""``fastvae bench``: measure operators on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from fastvae.bench import report
from fastvae.bench.cases import NOISE, build_case
from fastvae.bench.harness import Result, measure
from fastvae.bench.machine import this_machine
from fastvae.bench.problems import OPERATORS

_DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "float64")}
_PARTS = ("forward", "forward+backward")
_PLOT_ROWS = tuple(2**power for power in range(3, 15))


def run_bench(
    *,
    operator: str | None,
    shape: tuple[int, ...] | None,
    dtype: str,
    device: str,
    compiled: bool,
    seconds: float,
    json: bool,
    csv: Path | None,
    plot: Path | None,
) -> str:
    """Measure operators, write the requested files, and return the text to print.

    Args:
        operator: name of an operator, or None for all.
        shape: shape of the problem; the operator's default if None.
        dtype: type of the inputs.
        device: device of the inputs.
        compiled: also measure torch.compile.
        seconds: time for each case, without the warm-up.
        json: return JSON instead of a table.
        csv: CSV file to write, or None.
        plot: image file to write, or None.

    Raises:
        ValueError: an unknown operator, shape, dtype or device, or a shape or plot without an operator.
    """
    _check(operator, shape, dtype, device, plot)
    names = [operator] if operator else [*OPERATORS, NOISE]
    results = [
        _measure(name, part, shape, dtype, device, compiled, seconds)
        for name in names
        for part in (_PARTS if name != NOISE else ("forward",))
    ]
    machine = this_machine(device)
    if csv is not None:
        report.write_rows(csv, report.rows(results), machine)
    if plot is not None:
        assert operator is not None
        swept = [
            _measure(operator, "forward", s, dtype, device, compiled, seconds / 4) for s in _sweep(operator, shape)
        ]
        report.write_plot(plot, swept, machine)
    if json:
        return report.to_json(results, machine)
    return "\n\n".join([report.machine_lines(machine), report.result_table(results), report.LIMIT_IS])


def _measure(
    operator: str,
    part: str,
    shape: tuple[int, ...] | None,
    dtype: str,
    device: str,
    compiled: bool,
    seconds: float,
) -> Result:
    case = build_case(operator, part, shape, _DTYPES[dtype], device, with_compiled=compiled, with_reference=True)
    print(f"measuring {case}", file=sys.stderr)
    return measure(case, budget_s=seconds, min_rounds=5)


def _sweep(operator: str, shape: tuple[int, ...] | None) -> list[tuple[int, ...]]:
    """Copies of the shape with increasing batch sizes up to its own."""
    if operator == NOISE:
        return [(num_rows, 512) for num_rows in _PLOT_ROWS]
    found = OPERATORS[operator]
    shape, batch = shape or found.default_shape, found.axes.split().index("B")
    return [(*shape[:batch], n, *shape[batch + 1 :]) for n in _PLOT_ROWS if n <= max(shape[batch], 64)]


def _check(operator: str | None, shape: tuple[int, ...] | None, dtype: str, device: str, plot: Path | None) -> None:
    if operator is not None and operator not in (*OPERATORS, NOISE):
        raise ValueError(f"bench: operator must be one of {', '.join(OPERATORS)} or noise, got {operator!r}")
    if operator is None and (shape is not None or plot is not None):
        raise ValueError(
            "bench: --shape and --plot require an operator, for example fastvae bench gaussian_rsample_kl --shape 8 4"
        )
    if dtype not in _DTYPES:
        raise ValueError(f"bench: dtype must be one of {', '.join(_DTYPES)}, got {dtype!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "bench: --device cuda requires a GPU that PyTorch can use; `fastvae doctor` reports what is missing"
        )
