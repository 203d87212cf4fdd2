"""Run several commands in the processes of one launcher; rank 0 writes the exit codes and outputs as JSON."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

from fastvae import cli
from fastvae.distributed import enter_world


def main() -> None:
    commands, result = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    found = []
    with enter_world("cpu", timeout_s=120) as world:  # the commands use its process group
        for words in commands:
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                code = cli.main(words)
            found.append([code, output.getvalue()])
        if world.is_main:
            result.write_text(json.dumps(found))
        elif any(output for _, output in found):
            raise AssertionError(f"rank {world.rank} printed {found}")


if __name__ == "__main__":
    main()
