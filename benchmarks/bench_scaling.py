"""Strong and weak scaling on one and two processes, and a cost model's forecast for up to 1024 ranks."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from scaling_model import ASSUMPTIONS, Computation, Exchange, Network, fit_network, step_seconds

from fastvae.bench import options_parser, report, this_machine

ROOT = Path(__file__).resolve().parents[1]
RANKS = [2**power for power in range(11)]
Row = dict[str, Any]


def strategies() -> list[str]:
    """The strategies that are available on this machine."""
    return ["ddp", "fsdp", *(["deepspeed 2"] if importlib.util.find_spec("deepspeed") else [])]


def jobs_of(ranks: int, names: Sequence[str], *, batch: int, width: int, steps: int) -> list[Row]:
    """The jobs of one process (two batch sizes) or of several (the batch split, strong, and one batch each, weak)."""
    common = {"width": width, "steps": steps, "profiled": max(1, steps // 4)}
    if ranks == 1:
        return [{"strategy": "single", "mode": "", "global_batch_size": size, **common} for size in (batch // 2, batch)]
    return [
        {"strategy": name, "mode": mode, "global_batch_size": size, **common}
        for name in names
        for mode, size in (("strong", batch), ("weak", 2 * batch))
    ]


def run(ranks: int, jobs: Sequence[Row], folder: Path, repeats: int) -> Row:
    """Run all jobs of ``ranks`` processes in one torchrun, with one thread per process."""
    path = folder / f"jobs_{ranks}.json"
    path.write_text(json.dumps({"jobs": jobs, "repeats": repeats}))
    worker = str(Path(__file__).with_name("scaling_worker.py"))
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "--", worker]
    words = [sys.executable, *(launcher if ranks > 1 else [worker]), str(path)]
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # DeepSpeed needs ninja
    variables = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(ROOT), "PATH": tools}
    done = subprocess.run(words, env=os.environ | variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"bench_scaling: {ranks} processes exited with {done.returncode}\n{done.stderr[-4000:]}")
    result: Row = json.loads(path.with_suffix(".out.json").read_text())
    return result


def measure(names: Sequence[str], *, batch: int, width: int, steps: int, repeats: int) -> tuple[list[Row], Network]:
    """Measure one and two processes and the network between them."""
    size = {"batch": batch, "width": width, "steps": steps}
    with tempfile.TemporaryDirectory() as folder:
        one, two = (run(n, jobs_of(n, names, **size), Path(folder), repeats) for n in (1, 2))
    link = fit_network("loopback, gloo", two["link"]["bytes"], two["link"]["seconds"])
    return [*one["rows"], *two["rows"]], link


def computation_of(rows: Sequence[Row]) -> Computation:
    """One process's time as a constant and a time per example, fitted to its two batch sizes."""
    (small, t_small), (large, t_large) = (
        (row["global_batch_size"], row["p50_ms"] / 1e3) for row in rows if row["ranks"] == 1
    )
    per_example = max(0.0, (t_large - t_small) / (large - small))
    return Computation(max(0.0, t_large - per_example * large), per_example)


def exchange_of(row: Row) -> Exchange:
    return Exchange(row["strategy"], row["num_parameters"], row["num_blocks"])


def hidden_share(row: Row) -> float:
    """The fraction of the communication that overlaps with computation."""
    return min(1.0, row["overlap_ms"] / row["communication_ms"]) if row["communication_ms"] else 0.0


def predict(rows: Sequence[Row], row: Row, network: Network, ranks: int, examples: float, overhead_s: float) -> float:
    """The cost model's duration of a step like ``row``'s on the given number of ranks, in seconds."""
    where = {"ranks": ranks, "examples": examples, "hidden": hidden_share(row), "overhead_s": overhead_s}
    return step_seconds(computation_of(rows), exchange_of(row), network, **where)


def overheads(rows: Sequence[Row], link: Network) -> dict[str, float]:
    """Each strategy's host overhead in seconds: the measured strong-scaling time minus the model's."""
    added = {}
    for row in rows:
        if row["mode"] == "strong":
            seconds = predict(rows, row, link, row["ranks"], row["global_batch_size"] / row["ranks"], 0.0)
            added[row["strategy"]] = max(0.0, row["p50_ms"] / 1e3 - seconds)
    return added


def checks(rows: Sequence[Row], link: Network) -> Iterator[Row]:
    """Compare the cost model with the measurements of two processes."""
    added = overheads(rows, link)
    for row in rows:
        if row["ranks"] == 1:
            continue
        examples, overhead_s = row["global_batch_size"] / row["ranks"], added[row["strategy"]]
        yield {
            "strategy": row["strategy"],
            "mode": row["mode"],
            "sent_mib": row["sent_bytes"] / 2**20,
            "model_mib": exchange_of(row).sent_bytes(row["ranks"], link) / 2**20,
            "step_ms": row["p50_ms"],
            "overhead_ms": 1e3 * overhead_s,
            "model_ms": 1e3 * predict(rows, row, link, row["ranks"], examples, overhead_s),
        }


def forecast(rows: Sequence[Row], link: Network, network: Network) -> Iterator[Row]:
    """The efficiency on 1 to 1024 ranks: one rank's ideal time divided by the step's time."""
    computation, batch = computation_of(rows), max(row["global_batch_size"] for row in rows if row["ranks"] == 1)
    added = overheads(rows, link)
    for row in rows:
        if row["ranks"] == 1:
            continue
        for ranks in RANKS:
            examples = batch if row["mode"] == "weak" else batch / ranks
            seconds = predict(rows, row, network, ranks, examples, added[row["strategy"]])
            ideal = computation.seconds(batch) / (1 if row["mode"] == "weak" else ranks)
            names = {"strategy": row["strategy"], "mode": row["mode"], "network": network.name}
            yield {**names, "ranks": ranks, "step_ms": 1e3 * seconds, "efficiency": ideal / seconds}


def measured_table(rows: Sequence[Row]) -> str:
    header = ["strategy", "scaling", "ranks", "global batch", "20 % ms", "50 %", "80 %"]
    header += ["efficiency", "computation ms", "communication ms", "both at once ms", "sent MiB"]
    one = {row["global_batch_size"]: row["p50_ms"] for row in rows if row["ranks"] == 1}
    largest = max(one)
    lines = []
    for row in rows:
        ideal = {"strong": one[largest] / row["ranks"], "weak": one[largest]}.get(row["mode"], row["p50_ms"])
        times = [f"{row[name]:.1f}" for name in ("p20_ms", "p50_ms", "p80_ms")]
        parts = [f"{row[name]:.1f}" for name in ("computation_ms", "communication_ms", "overlap_ms")]
        place = [row["strategy"], row["mode"] or "-", str(row["ranks"]), str(row["global_batch_size"])]
        lines.append([*place, *times, f"{ideal / row['p50_ms']:.0%}", *parts, f"{row['sent_bytes'] / 2**20:.2f}"])
    return report.markdown(header, lines)


def check_table(rows: Sequence[Row]) -> str:
    header = ["strategy", "scaling", "sent MiB", "model MiB", "step ms", "added by the strategy ms", "model ms"]
    header.append("model / measured")
    lines = []
    for row in rows:
        sent = [f"{row['sent_mib']:.2f}", f"{row['model_mib']:.2f}"]
        times = [f"{row[name]:.1f}" for name in ("step_ms", "overhead_ms", "model_ms")]
        ratio = f"{row['model_ms'] / row['step_ms']:.2f}{' (fitted)' if row['mode'] == 'strong' else ''}"
        lines.append([row["strategy"], row["mode"], *sent, *times, ratio])
    return report.markdown(header, lines)


def uniform(rows: Sequence[Row]) -> list[Row]:
    """Records with the union of all fields, because forecasts and measurements have different ones."""
    fields = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name, "") for name in fields} for row in rows]


def write_plot(path: Path, points: Sequence[Row]) -> None:
    """Plot the efficiency against the number of ranks for both modes, with a line per strategy and network."""
    figure = Figure(figsize=(10.0, 4.5), layout="constrained")
    for axes, mode in zip(figure.subplots(1, 2, sharey=True), ("weak", "strong"), strict=True):
        for name, style in zip(dict.fromkeys(point["network"] for point in points), ("-", "--"), strict=False):
            for color, strategy in enumerate(dict.fromkeys(point["strategy"] for point in points)):
                mine = [p for p in points if (p["mode"], p["network"], p["strategy"]) == (mode, name, strategy)]
                x, y = [p["ranks"] for p in mine], [p["efficiency"] for p in mine]
                axes.plot(x, y, style, color=f"C{color}", marker="o", markersize=3, label=f"{strategy}, {name}")
        axes.set(xscale="log", ylim=(0, 1.05), xlabel="ranks", title=f"{mode} scaling: the model's forecast")
        axes.grid(visible=True, alpha=0.25)
    figure.axes[0].set_ylabel("efficiency")
    figure.axes[1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    figure.savefig(path, dpi=150)


def test_scaling(benchmark: Any, tmp_path: Path) -> None:
    """Run tiny steps without timing; only the number of sent bytes is compared with the model."""
    rows, link = benchmark(measure, ["ddp"], batch=8, width=256, steps=2, repeats=2)
    assert [row["ranks"] for row in rows] == [1, 1, 2, 2]
    for row in list(checks(rows, link)):
        assert abs(row["sent_mib"] / row["model_mib"] - 1) < 0.05
    for row in rows[2:]:
        assert row["communication_ms"] > 0
        assert row["overlap_ms"] <= min(row["communication_ms"], row["computation_ms"])
    points = list(forecast(rows, link, link))
    assert {point["ranks"] for point in points} == set(RANKS)
    assert all(0 < point["efficiency"] <= 1.0 + 1e-9 for point in points)
    write_plot(tmp_path / "plot.png", points)


def main() -> int:
    description = "Measure scaling on one and two processes and forecast it for more."
    parser = options_parser(description, Path(__file__).parent / "results")
    parser.add_argument("--batch", type=int, default=256, help="number of examples on one rank")
    parser.add_argument("--width", type=int, default=1024, help="width of the two hidden layers of encoder and decoder")
    parser.add_argument("--steps", type=int, default=40, help="number of timed steps of each case")
    parser.add_argument("--latency-us", type=float, default=10.0, help="latency of the forecast's network")
    parser.add_argument("--gb-per-s", type=float, default=25.0, help="bandwidth per rank of the forecast's network")
    options = parser.parse_args()
    given = Network(
        f"{options.latency_us:g} us, {options.gb_per_s:g} GB/s", options.latency_us / 1e6, options.gb_per_s * 1e9
    )
    size = {"batch": options.batch, "width": options.width, "steps": options.steps}
    rows, link = measure(strategies(), **size, repeats=20)
    verdicts, points = list(checks(rows, link)), [*forecast(rows, link, link), *forecast(rows, link, given)]
    speed = f"{link.latency_s * 1e6:.0f} us per message, {link.bytes_per_s / 1e9:.2f} GB/s"
    notes = [
        f"784-{options.width}-{options.width}-32 and its mirror image, {rows[0]['num_parameters']:,} parameters, "
        f"one thread per rank, {options.steps} steps per case; network between two ranks (gloo, loopback): {speed}",
        "computation, communication and both at once: unions over threads of torch.profiler's intervals, measured in "
        "separate steps because profiling slows them down; efficiency: one rank's time divided by the step's",
    ]
    tables = [
        "\n".join(f"- {note}" for note in notes),
        measured_table(rows),
        "The cost model compared with the measurements:\n\n" + check_table(verdicts),
        "Assumptions of the cost model:\n\n" + "\n".join(f"- {text}" for text in ASSUMPTIONS),
    ]
    print("\n\n".join(tables))
    if options.out is not None:
        machine = this_machine()
        note = "Made by `python benchmarks/bench_scaling.py`."
        path = report.write_page(options.out, "scaling", machine, tables, note, how="1 and 2 ranks were measured; ")
        report.write_rows(path.with_suffix(".csv"), uniform([*rows, *points]), machine)
        write_plot(path.with_suffix(".png"), points)
        print(f"\nwritten: {path}, .csv and .png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
