"""Record the machine that run_gpu.sh runs on as the first rows of its checks."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from gpu_rows import OK, SKIPPED, record_check

from fastvae import doctor
from fastvae.bench import this_machine

SMI = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.sm,clocks.max.sm", "--format=csv,noheader"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="folder of checks.csv")
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    options = parser.parse_args()
    machine = this_machine(options.device)
    facts = {"hardware": machine.hardware, "versions": machine.versions, "backend": machine.backend}
    if options.device == "cuda":
        gpu = torch.cuda.get_device_properties(0)
        sizes = f"{gpu.multi_processor_count} multiprocessors, L2 {gpu.L2_cache_size / 2**20:.0f} MiB"
        facts["GPU"] = f"sm_{gpu.major}{gpu.minor}, {sizes}, {gpu.total_memory / 2**30:.0f} GiB"
    for name, value in facts.items():
        record_check(options.results, "machine", name, OK, value)
    if shutil.which(SMI[0]) is None:
        record_check(options.results, "machine", "driver", SKIPPED, "nvidia-smi is not on PATH")
    else:
        done = subprocess.run(SMI, capture_output=True, text=True, check=False)
        record_check(options.results, "machine", "driver", OK, done.stdout or done.stderr)
    print(doctor.report())
    return 0


if __name__ == "__main__":
    sys.exit(main())
