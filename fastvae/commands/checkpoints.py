"""`fastvae checkpoints` and `verify-resume`: list checkpoints, and test that a resumed run equals an uninterrupted
one.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fastvae.commands.parsing import parse
from fastvae.commands.user_file import parse_run_or_file
from fastvae.plugins import plugin_words
from fastvae.settings import Settings
from fastvae.train.run_dir.checkpoint import CheckpointError, read_checkpoint
from fastvae.train.run_dir.run_dir import RunDir, checkpoint_paths, step_of

RunDirectory = Annotated[Path, tyro.conf.Positional]


@dataclass(frozen=True)
class Checkpoints(Settings):
    """List a run's checkpoints: step, size, time and validity; exit code 1 if one is not valid."""

    run: RunDirectory
    """The run directory."""
    verify: bool = False
    """Read every byte and compare checksums; by default only names, sizes and headers are compared."""

    def __call__(self) -> int:
        paths = checkpoint_paths(RunDir(self.run).checkpoints)
        if not paths:
            raise ValueError(f"{self.run} has no checkpoints; `fastvae train` writes them to RUN/checkpoints")
        print(f"{'step':>10}  {'MiB':>10}  {'saved':19}  state")
        all_valid = True
        for path in reversed(paths):
            try:
                found = read_checkpoint(path, checksums=self.verify)
            except CheckpointError as error:
                print(f"{step_of(path):10d}  {'':>10}  {'':19}  NOT USABLE: {error}")
                all_valid = False
                continue
            saved = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.saved_at))
            state = "valid" if self.verify else "complete (--verify reads the checksums)"
            print(f"{found.step:10d}  {found.size_bytes / 2**20:10.2f}  {saved}  {state}")
        return 0 if all_valid else 1


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(Settings):
    """Options of verify-resume, in addition to those of the recipe."""

    kills: int = 20
    """Number of kills."""
    nproc: int = 1
    """Number of processes per run; more than one are started by torchrun."""
    kill_seed: int = 0
    """Seed of the times at which runs are killed."""
    keep: Path | None = None
    """Keep the runs in this new directory; None removes them."""


_OWN = {"--kills", "--nproc", "--kill-seed", "--keep"}
_SHORT = ("--train.steps=200", "--train.checkpoint-every=20", "--train.final-samples=1")


def verify_resume(words: Sequence[str]) -> int:
    """Kill short runs of a recipe at random points, resume them, and compare the final weights bit for bit.

    ``fastvae verify-resume RECIPE [--kills 20] [--nproc 2] [options of fastvae train RECIPE]``
    """
    if not words or words[0] in ("-h", "--help"):
        print(verify_resume.__doc__)
        return 0 if words else 2
    from fastvae import verify  # imported here: it imports PyTorch, which the list of commands does not need

    recipe, given = words[0], [*_SHORT, *words[1:]]
    own, theirs = _split(given)
    options = parse(VerifyOptions, own, f"verify-resume {recipe}")
    if any(word.partition("=")[0] in ("--train.epochs", "--epochs") for word in theirs):
        raise ValueError("verify-resume: a run's length must be in steps, got --train.epochs; use --train.steps")
    num_steps = parse_run_or_file("train", recipe, theirs).train.num_steps
    if options.kills < 1 or options.nproc < 1:
        raise ValueError(f"verify-resume: kills and nproc must be at least 1, got {options.kills} and {options.nproc}")
    program = verify.Program((recipe, *theirs, *plugin_words()), options.nproc)
    with tempfile.TemporaryDirectory(prefix="fastvae-verify-") as scratch:
        root = options.keep if options.keep is not None else Path(scratch)
        if options.keep is not None and root.exists():
            raise ValueError(f"verify-resume: --keep {root} exists already; name a new directory")
        print(f"{options.kills} kills of `fastvae train {recipe}`, {num_steps} steps, in {root}", flush=True)
        verdict = verify.verify_resume(
            program,
            root,
            kills=options.kills,
            steps=num_steps,
            seed=options.kill_seed,
            report=lambda text: print(text, flush=True),
        )
    print(verify.text_table(verdict, num_steps))
    return 0 if verdict.holds else 1


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the arguments into this command's own and those of `fastvae train`."""
    own: list[str] = []
    theirs: list[str] = []
    rest = iter(words)
    for word in rest:
        name, equals, _ = word.partition("=")
        if name not in _OWN:
            theirs.append(word)
            continue
        own.append(word)
        if not equals:
            own += [value for value in [next(rest, None)] if value is not None]
    return own, theirs
