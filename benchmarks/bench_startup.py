"""Start-up time: processor time of imports and of quick commands, compared with PyTorch's own import."""

from __future__ import annotations

import math
import os
import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from fastvae.bench import options_parser, report, this_machine

TORCH = "import torch"
CASES = {
    TORCH: ["-c", "import torch"],
    "import fastvae": ["-c", "import fastvae"],
    "import fastvae; fastvae.noise_key": ["-c", "import fastvae; fastvae.noise_key"],
    "import fastvae; fastvae.VAE": ["-c", "import fastvae; fastvae.VAE"],
    "import fastvae; fastvae.load": ["-c", "import fastvae; fastvae.load"],
    "fastvae --version": ["-m", "fastvae", "--version"],
    "fastvae --help": ["-m", "fastvae", "--help"],
    "fastvae recipes": ["-m", "fastvae", "recipes"],
    "fastvae status RUN": ["-m", "fastvae", "status", "runs/digits"],
    "fastvae train digits --help": ["-m", "fastvae", "train", "digits", "--help"],
}
"""Arguments of the Python interpreter for each case."""


def cpu_seconds(arguments: list[str], package: Path | None = None) -> float:
    """User and system time of one new process, optionally with the version of fastvae in the folder ``package``."""
    silent = os.open(os.devnull, os.O_WRONLY)
    actions = [(os.POSIX_SPAWN_DUP2, silent, stream) for stream in (1, 2)]
    environment = os.environ if package is None else {**os.environ, "PYTHONPATH": str(package)}
    child = os.posix_spawn(sys.executable, [sys.executable, *arguments], environment, file_actions=actions)
    _, status, usage = os.wait4(child, 0)
    os.close(silent)
    if status and (package is None or arguments[0] == "-c"):  # an earlier version may not have the command
        version = package or "this version of fastvae"
        raise RuntimeError(f"python {' '.join(arguments)} exited with status {status} with {version}")
    return math.nan if status else usage.ru_utime + usage.ru_stime


def measure(names: list[str], *, rounds: int, before: Path | None = None) -> list[dict[str, Any]]:
    """Measure the processor time of all cases, interleaved in random order, after one warm-up round."""
    versions = [None] if before is None else [None, before.resolve()]
    cases = [(name, version) for name in names for version in versions if name != TORCH or version is None]
    seconds: dict[tuple[str, Path | None], list[float]] = {case: [] for case in cases}
    order = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "runs" / "digits"
        run.mkdir(parents=True)
        (run / "status.json").write_text('{"state": "done", "step": 3}')
        here = Path.cwd()
        os.chdir(folder)
        try:
            for turn in range(rounds + 1):
                for name, version in order.sample(cases, len(cases)):
                    took = cpu_seconds(CASES[name], version)
                    if turn:
                        seconds[name, version].append(took)
        finally:
            os.chdir(here)
    median = {case: statistics.median(values) for case, values in seconds.items()}
    return [
        {
            "case": name,
            "rounds": rounds,
            "cpu_s_min": min(seconds[name, None]),
            "cpu_s_median": median[name, None],
            "cpu_s_max": max(seconds[name, None]),
            "beyond_torch_s": median[name, None] - median[TORCH, None],
            "before_cpu_s_median": median.get((name, versions[-1]), math.nan) if before else math.nan,
        }
        for name in names
    ]


def test_startup(benchmark: Any) -> None:
    rows = benchmark(measure, [TORCH, "fastvae --version"], rounds=1)
    assert all(row["cpu_s_median"] > 0 for row in rows)


def main() -> int:
    description = "Measure the processor time of imports and quick commands."
    parser = options_parser(description, Path(__file__).parent / "results")
    parser.add_argument("--rounds", type=int, default=7, help="number of runs of each case")
    parser.add_argument("--before", type=Path, help="folder with fastvae/ of an earlier version to compare with")
    options = parser.parse_args()
    rows = measure(list(CASES), rounds=options.rounds, before=options.before)
    numbers = ("cpu_s_min", "cpu_s_median", "cpu_s_max", "beyond_torch_s", "before_cpu_s_median")
    lines = [[row["case"], *("" if math.isnan(row[name]) else f"{row[name]:.2f}" for name in numbers)] for row in rows]
    header = ["started", "least, s", "median, s", "most, s", "median less torch's, s", "median before, s"]
    tables = [report.markdown(header, lines)]
    print("\n\n".join(tables))
    if options.out is not None:
        machine = this_machine("cpu")
        how = f"User and system time of {options.rounds} new processes per case, interleaved in random order; "
        note = "made by `python benchmarks/bench_startup.py`."
        path = report.write_page(options.out, "startup", machine, tables, note, how)
        report.write_rows(path.with_suffix(".csv"), rows, machine)
        print(f"\nwritten: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
