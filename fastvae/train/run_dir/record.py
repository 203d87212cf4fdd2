"""``run.json``: the format of a run directory, and which model and data it belongs to. Needs no PyTorch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastvae._version import __version__
from fastvae.plugins import loaded_plugins
from fastvae.train.run_dir.files import dump_json, write_atomic
from fastvae.train.run_dir.run_dir import RunDir

FORMAT = 1


def read_record(run_dir: Path) -> dict[str, Any] | None:
    """What ``run.json`` says, or None where no run has begun in this directory.

    Raises:
        ValueError: the directory holds a run of another format, or the file is not one that fastvae wrote.
    """
    paths = RunDir(run_dir)
    try:
        record = json.loads(paths.record.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if paths.config.exists() or paths.newest_checkpoint is not None:
            raise ValueError(_other_format(run_dir, 0, "an older fastvae")) from None
        return None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{paths.record}: must be JSON as fastvae writes it ({error}); was it changed?") from None
    if not isinstance(record, dict) or not isinstance(record.get("format"), int):
        raise ValueError(f"{paths.record}: must hold the format of the run directory; was it changed?")
    if record["format"] != FORMAT:
        raise ValueError(_other_format(run_dir, record["format"], f"fastvae {record.get('fastvae', '?')}"))
    return record


def write_record(run_dir: Path, belongs_to: Mapping[str, Any]) -> None:
    """Begin a run directory: its format, its path, the loaded plugins, and what it belongs to."""
    record = {"format": FORMAT, "fastvae": __version__, "directory": str(run_dir.absolute()), **belongs_to}
    record["plugins"] = loaded_plugins()
    write_atomic(RunDir(run_dir).record, dump_json(record))


def _other_format(run_dir: Path, found: int, writer: str) -> str:
    return (
        f"{run_dir} holds a run of format {found}, written by {writer}; this version, {__version__}, reads and writes "
        f"format {FORMAT} only: use the version that wrote it, or choose another run directory"
    )
