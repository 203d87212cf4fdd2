"""The command line: parse, build, call. A new command is a dataclass in ``commands/`` and one line here."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fastvae import __version__
from fastvae.commands.anomaly_report import AnomalyReport
from fastvae.commands.checkpoints import Checkpoints, verify_resume
from fastvae.commands.cluster import Status, outcome, submit
from fastvae.commands.compression import Compress, Decompress
from fastvae.commands.examples import Decode, Interpolate, Reconstruct, Sample, Traverse
from fastvae.commands.export import Export
from fastvae.commands.machine import Bench, Doctor
from fastvae.commands.numbers import Encode, Evaluate, Score
from fastvae.commands.parsing import UsageError, is_first_process, parse, unknown
from fastvae.commands.probe import Probe
from fastvae.commands.recommend import Recommend
from fastvae.commands.train import Recipes, train
from fastvae.plugins import load_plugins, take_plugins

COMMANDS: dict[str, type[Callable[[], int]]] = {
    "evaluate": Evaluate,
    "sample": Sample,
    "reconstruct": Reconstruct,
    "interpolate": Interpolate,
    "traverse": Traverse,
    "score": Score,
    "encode": Encode,
    "decode": Decode,
    "recommend": Recommend,
    "probe": Probe,
    "anomaly-report": AnomalyReport,
    "compress": Compress,
    "decompress": Decompress,
    "recipes": Recipes,
    "doctor": Doctor,
    "bench": Bench,
    "checkpoints": Checkpoints,
    "export": Export,
    "status": Status,
}
# Those that report on this process, and those whose processes share the work. Rank 0 alone runs the others.
_ON_EVERY_PROCESS = ("doctor", "bench", "evaluate", "score", "encode", "sample", "anomaly-report")
_USERS_ERRORS = (ValueError, TypeError, OSError, ModuleNotFoundError)  # reported in one line, with exit code 2
RECIPE_COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {  # their options depend on the recipe
    "train": train,
    "verify-resume": verify_resume,
    "submit": submit,
    "outcome": outcome,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return the exit code. Invalid input is reported in one line on stderr, with code 2.

    Of several processes, rank 0 reports what is wrong with the command line, and every process its later errors. The
    processes of some commands share the work; rank 0 alone runs the other commands on a finished run. The result does
    not depend on the number of processes.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        plugins, words = take_plugins(take_local_rank(words))
        load_plugins(plugins, Path.cwd())
        if not words or words[0] in ("-h", "--help"):
            print(overview())
            return 0 if words else 2
        if words[0] == "--version":
            print(f"fastvae {__version__}")
            return 0
        if words[0] in RECIPE_COMMANDS:
            return RECIPE_COMMANDS[words[0]](words[1:])
        if words[0] not in COMMANDS:
            raise UsageError(unknown("command", words[0], [*COMMANDS, *RECIPE_COMMANDS]))
        command = parse(COMMANDS[words[0]], words[1:], words[0])
        if words[0] not in _ON_EVERY_PROCESS and os.environ.get("WORLD_SIZE", "1") != "1":
            if not is_first_process():
                return 0
            print(f"fastvae: rank 0 alone runs {words[0]}; the other processes end", file=sys.stderr)
        return command()
    except UsageError as error:
        if is_first_process():
            print(f"fastvae: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of the output has closed it, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except _USERS_ERRORS as error:
        print(f"fastvae: {this_process()}{error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        from fastvae.distributed import (
            PeerFailed,  # imported here: they import PyTorch, as has the raising code
        )
        from fastvae.train import TrainingDiverged

        if not isinstance(error, (TrainingDiverged, PeerFailed)):
            raise
        if isinstance(error, PeerFailed) and error.is_same_error:
            return 2 if isinstance(error.__cause__, _USERS_ERRORS) else 1
        print(f"fastvae: {error}", file=sys.stderr)
        return 1


def this_process() -> str:
    """Return the rank and host as the start of a message; empty for a single process."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return ""
    return f"rank {os.environ.get('RANK')} on {socket.gethostname()}: "


def take_local_rank(words: Sequence[str]) -> list[str]:
    """Remove ``--local_rank=N``, which DeepSpeed's launcher adds, and set LOCAL_RANK to N."""
    given = [word for word in words if word.startswith("--local_rank=")]
    for word in given:
        os.environ.setdefault("LOCAL_RANK", word.partition("=")[2])
    return [word for word in words if word not in given]


def overview() -> str:
    """Return the output of ``fastvae --help``."""
    commands = {"train": train, **COMMANDS, **RECIPE_COMMANDS}
    lines = [f"  {name:13}  {(command.__doc__ or '').splitlines()[0]}" for name, command in commands.items()]
    usage = "usage: fastvae COMMAND [options]      (fastvae COMMAND --help shows a command's options)"
    plugins = "every command: --plugin MODULE ... first imports your own kinds, families, likelihoods and tasks"
    start = "start here: fastvae train digits;   fastvae --version"
    return "\n".join([usage, "", "commands:", *lines, "", plugins, start])
