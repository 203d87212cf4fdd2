"""`fastvae probe`: evaluate the features of a run."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fastvae import applications
from fastvae.applications.config import ProbeConfig
from fastvae.commands.options import PICTURES, Device, OnRun, RunDirectory, load_run, output_file

if TYPE_CHECKING:
    from fastvae.applications.probe import ProbeRow


@dataclass(frozen=True)
class Probe(OnRun):
    """Evaluate a run's features: k-NN and logistic regression on posterior means, PCA and the raw input."""

    run: RunDirectory
    """The run directory."""
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    """How features are evaluated."""
    map_examples: int = 2000
    """Number of test examples on the 2-D maps; 0 for no maps."""
    out: Path | None = None
    """File of the maps, a .png or another picture; None is probe.png in the run directory."""
    json: bool = False
    """Print one JSON list instead of a table."""
    device: Device = "auto"
    """Device; auto is a GPU if one is available."""

    def __call__(self) -> int:
        if self.map_examples < 0:
            raise ValueError(f"--map-examples: must be at least 10, or 0 for no maps, got {self.map_examples}")
        out = None if self.out is None else output_file(self.out, PICTURES)
        loaded = load_run(self.run, self.device, self.module)
        rows = applications.probe.probe(loaded, self.probe)
        print(json.dumps([dataclasses.asdict(row) for row in rows]) if self.json else probe_table(rows))
        if self.map_examples:
            path = out or loaded.directory / "probe.png"
            applications.probe.write_maps(loaded, path, num_examples=self.map_examples, seed=self.probe.seed)
            if not self.json:
                print(path)
        return 0


def probe_table(rows: list[ProbeRow]) -> str:
    """Return the rows, one per line."""
    lines = [f"{'features':18} {'dimensions':>10} {'kNN':>8} {'logistic':>9}"]
    lines += [
        f"{row.features:18} {row.dimensions:10} {row.knn_accuracy:8.2%} {row.logistic_accuracy:9.2%}" for row in rows
    ]
    return "\n".join(lines)
