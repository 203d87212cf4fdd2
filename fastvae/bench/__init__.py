"""The benchmark harness compares our operators with eager PyTorch, torch.compile and memory bandwidth in one run."""

from fastvae.bench.cases import build_case as build_case
from fastvae.bench.command import run_bench as run_bench
from fastvae.bench.harness import COMPILED as COMPILED
from fastvae.bench.harness import EAGER as EAGER
from fastvae.bench.harness import LIMIT as LIMIT
from fastvae.bench.harness import OURS as OURS
from fastvae.bench.harness import Bar as Bar
from fastvae.bench.harness import Case as Case
from fastvae.bench.harness import Goal as Goal
from fastvae.bench.harness import Result as Result
from fastvae.bench.harness import measure as measure
from fastvae.bench.machine import this_machine as this_machine
from fastvae.bench.problems import OPERATORS as OPERATORS
from fastvae.bench.suite import check_and_benchmark as check_and_benchmark
from fastvae.bench.suite import goal as goal
from fastvae.bench.suite import main as main
from fastvae.bench.suite import options_parser as options_parser
