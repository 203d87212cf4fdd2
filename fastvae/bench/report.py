"""Write measurements as tables, files and a plot."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastvae.bench.harness import LIMIT, OURS, Goal, Result
from fastvae.bench.machine import Machine

Row = dict[str, Any]
LIMIT_IS = "the limit is torch.add(a, b, out=c) on the CPU and a copy from device to device on CUDA"


def rows(results: Iterable[Result]) -> list[Row]:
    """One flat record per call of each case; ratios above 1 mean that our operator is faster than the call."""
    table = []
    for result in results:
        case = result.case
        for name, timing in result.timings.items():
            row: Row = {
                "operator": case.operator,
                "variant": case.variant,
                "part": case.part,
                "shape": "x".join(map(str, case.shape)),
                "dtype": str(case.dtype).removeprefix("torch."),
                "device": case.device.type,
                "call": name,
                "p20_us": timing.p20_us,
                "p50_us": timing.p50_us,
                "p80_us": timing.p80_us,
                "num_calls": timing.num_calls,
                "elements_per_s": None if name == LIMIT else result.elements_per_s(name),
                "gb_per_s": result.gb_per_s(name),
                "share_of_limit": result.share_of_limit(name),
                "times_ours": result.speedup(name),
                "peak_mib": timing.peak_mib,
            }
            table.append(row)
    return table


def to_json(results: Iterable[Result], machine: Machine) -> str:
    """One JSON object with the machine and a record per call."""
    return json.dumps({"machine": dataclasses.asdict(machine), "results": rows(results)}, indent=2)


def write_rows(path: Path, table: Sequence[Mapping[str, Any]], machine: Machine) -> None:
    """Write flat records as CSV, with the description of the machine in each."""
    facts = dataclasses.asdict(machine)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*table[0], *facts], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, **facts} for row in table)


def result_table(results: Sequence[Result]) -> str:
    """A Markdown table of all calls of all cases."""
    header = ["case", "call", "20 % µs", "50 % µs", "80 % µs", "G elements/s", "GB/s", "of limit", "time / ours"]
    has_memory = any(timing.peak_mib is not None for result in results for timing in result.timings.values())
    lines = []
    for result in results:
        for name, timing in result.timings.items():
            cells = [str(result.case) if name == OURS else "", name]
            cells += [f"{value:,.1f}" for value in (timing.p20_us, timing.p50_us, timing.p80_us)]
            cells += [
                "" if name == LIMIT else f"{result.elements_per_s(name) / 1e9:.3f}",
                f"{result.gb_per_s(name):.1f}",
            ]
            cells += [f"{100 * result.share_of_limit(name):.0f} %", f"{result.speedup(name):.2f}"]
            cells += [f"{timing.peak_mib:,.1f}" if timing.peak_mib is not None else ""] if has_memory else []
            lines.append(cells)
    return markdown([*header, *(["peak MiB"] if has_memory else [])], lines)


def bar_table(measured: Iterable[tuple[Goal, Result]]) -> str:
    """A Markdown table of all requirements and the measured values; empty if no case has a requirement."""
    lines = []
    for goal, result in measured:
        for bar in goal.bars:
            value, form = bar.measured(result), "{:.0%} of the limit" if bar.against == LIMIT else "{:.2f} x {}"
            aim = form.format(bar.aim, bar.against) if bar.aim else ""
            shown = [form.format(number, bar.against) for number in (bar.at_least, value)]
            note = f" ({result.timings[OURS].p50_us / result.timings[LIMIT].p50_us:.2f} x its time)"
            shown[1] += note if bar.against == LIMIT else ""
            verdict = "reached" if value >= bar.at_least else "MISSED"
            lines.append([str(result.case), ">= " + shown[0], aim, shown[1], verdict])
    return markdown(["case", "bar", "aim", "measured", ""], lines) if lines else ""


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]
    rule = ["-" * max(3, width) for width in widths]
    shown = [header, rule, *lines]
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in shown)


def write_page(
    folder: Path,
    name: str,
    machine: Machine,
    tables: Sequence[str],
    note: str,
    how: str = "Medians of calls that take turns in one process, which keeps the memory that they free; ",
) -> Path:
    """Write ``<name>_<hardware>_<yyyymm>.md`` in ``folder``.

    Args:
        folder: the folder of results.
        name: the benchmark's name.
        machine: the machine, which is described above the tables.
        tables: tables; empty ones are omitted.
        note: the last sentence of the page.
        how: a description of the method, before ``note``.

    Returns:
        The path of the page.
    """
    path = folder / f"{name}_{machine.slug}_{machine.month}.md"
    folder.mkdir(parents=True, exist_ok=True)
    title = f"# {name}: {machine.hardware}"
    path.write_text("\n\n".join([title, machine_lines(machine), *filter(None, tables), how + note]) + "\n", "utf-8")
    return path


def machine_lines(machine: Machine) -> str:
    """The description of the machine as a Markdown list."""
    facts = dataclasses.asdict(machine) | {"load": f"{machine.load:.2f}"}
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def write_plot(path: Path, results: Iterable[Result], machine: Machine) -> None:
    """Plot GB/s against the size, with one line per backend and a dashed line for the limit."""
    from matplotlib.figure import Figure

    lines: dict[str, list[tuple[int, float]]] = defaultdict(list)
    title = ""
    for result in results:
        case, title = result.case, f"{result.case.operator} {result.case.part}, {str(result.case.dtype)[6:]}"
        for name in result.timings:
            lines[name].append((case.num_bytes, result.gb_per_s(name)))
    figure = Figure(figsize=(7.0, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, points in lines.items():
        x, y = zip(*sorted(points), strict=True)
        style = {"linestyle": "--", "color": "black"} if name == LIMIT else {"marker": "o", "markersize": 4}
        axes.plot([value / 2**20 for value in x], y, label=name, **style)
    axes.set(xscale="log", yscale="log", xlabel="memory that has to move, MiB", ylabel="GB/s")
    axes.set_title(f"{title}\n{machine.hardware}", fontsize=10)
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
