"""Compare whole training steps on the GPU with the eager loop and write each round immediately; part of run_gpu.sh."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path

import gpu_tables
import torch
from bench_train_step import build_contenders, load_images, turns
from gpu_rows import FAILED, OK, TRAIN_STEP, append_row, record_check
from train_step_networks import NETWORKS

from fastvae.bench import this_machine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="folder of train_step.csv")
    parser.add_argument("--step", default="train_step", help="name of this step in checks.csv")
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--seconds", type=float, default=600, help="time after which no new measurement is started")
    parser.add_argument("--steps", type=int, default=1000, help="steps per round")
    parser.add_argument("--rounds", type=int, default=3, help="number of measured rounds, after one warm-up round")
    parser.add_argument("--networks", nargs="+", default=["textbook"], choices=[network.name for network in NETWORKS])
    parser.add_argument("--compiled", action="store_true", help="also measure torch.compile")
    options = parser.parse_args()
    end, facts = time.monotonic() + options.seconds, dataclasses.asdict(this_machine(options.device))
    images, _ = load_images()
    measured = 0
    for network in (network for network in NETWORKS if network.name in options.networks):
        if time.monotonic() > end:
            break
        torch.compiler.reset()
        contenders = build_contenders(
            network, images, steps=options.steps, with_compiled=options.compiled, device=options.device
        )
        for turn, name, rate in turns(contenders, steps=options.steps, rounds=options.rounds):
            row = {"network": network.name, "contender": name, "turn": turn, "images_per_s": rate}
            append_row(options.results / TRAIN_STEP, {**row, **facts})
            print(f"{network.name}, {name}, turn {turn}: {rate:,.0f} images/s", flush=True)
            measured += 1
            if time.monotonic() > end:
                break
    verdict = OK if measured else FAILED
    fine = record_check(options.results, options.step, "turns measured", verdict, str(measured))
    gpu_tables.write_pages(options.results)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
