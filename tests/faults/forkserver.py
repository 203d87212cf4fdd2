"""A process that has imported the program and forks it on request: a start takes tenths of a second, not seconds.

Reads one JSON request per line, ``{"id": N, "words": [...], "environment": {...}, "output": path}``, and answers with N
and the child's process id; ``{"id": N, "wait": pid}`` waits for its end and answers with N and the status. The child is
the program itself: its own process, ``fastvae.cli.main``, and an exit code. Only the figures at the end of a run are
omitted: they are slow and not tested. With ``"script"`` and ``"folder"`` the child is that Python script.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import matplotlib.pyplot  # noqa: F401 (this and the next are imported once, here, instead of in every child)
import sklearn.datasets  # noqa: F401
import torch._dynamo
import torch.distributed.checkpoint
import torch.utils.tensorboard  # noqa: F401

import fastvae
from fastvae import cli
from fastvae.train import loop
from tests.signals import wait_until_read

_NEEDED_BY_EVERY_RUN = (fastvae.build_data, fastvae.build_model)  # imports them


def signal_inside(hook: str) -> None:
    """Let a call of a function send signals to this process: "module:name at SIGNAME [SIGNAME, 1.5 s later]"."""
    place, at, *names = hook.split()
    module_name, _, name = place.partition(":")
    module = importlib.import_module(module_name)
    original: Callable[..., Any] = getattr(module, name)
    calls = 0

    @functools.wraps(original)
    def hooked(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        for number, signal_name in enumerate(names if calls == int(at) else ()):
            time.sleep(1.5 * number)  # a second signal within 1 s counts as the same request
            os.kill(os.getpid(), signal.Signals[signal_name])
            wait_until_read()
        return original(*arguments, **options)

    setattr(module, name, hooked)


def child(request: dict[str, Any]) -> None:
    """Run the program in this process."""
    os.environ.update(request["environment"])
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if hook := request["environment"].get("FAULT_HOOK"):
        signal_inside(hook)
    if "script" in request:
        run_script(Path(request["script"]), request["words"], request["folder"])
    os.chdir(request.get("folder", "."))
    loop.write_pictures = lambda *_: None
    sys.exit(cli.main(request["words"]))


def run_script(script: Path, words: list[str], folder: str) -> NoReturn:
    """Run ``python SCRIPT WORDS`` in this process, in a folder."""
    os.chdir(folder)
    sys.argv = [str(script), *words]
    sys.path[0] = str(script.parent)
    runpy.run_path(str(script), run_name="__main__")
    sys.exit(0)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                signal.signal(signal.SIGINT, signal.default_int_handler)
                child(request)
        print(request["id"], answer, flush=True)


if __name__ == "__main__":
    main()
