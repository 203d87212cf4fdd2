"""``run.json``: the format of a run directory, its model and its data. This module does not import PyTorch."""

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
    """Read ``run.json``; None if no run has started in this directory.

    Raises:
        ValueError: the run has another format, or the file was not written by fastvae.
    """
    paths = RunDir(run_dir)
    try:
        record = json.loads(paths.record.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if paths.config.exists() or paths.newest_checkpoint is not None:
            raise ValueError(_other_format(run_dir, 0, "an older fastvae")) from None
        return None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{paths.record}: must be JSON written by fastvae ({error}); was it edited?") from None
    if not isinstance(record, dict) or not isinstance(record.get("format"), int):
        raise ValueError(f"{paths.record}: must contain the format of the run directory; was it edited?")
    if record["format"] != FORMAT:
        raise ValueError(_other_format(run_dir, record["format"], f"fastvae {record.get('fastvae', '?')}"))
    return record


def write_record(run_dir: Path, belongs_to: Mapping[str, Any]) -> None:
    """Write ``run.json``: the format of the run directory, its path, the loaded plugins, and the model and data that it
    belongs to.
    """
    record = {"format": FORMAT, "fastvae": __version__, "directory": str(run_dir.absolute()), **belongs_to}
    record["plugins"] = loaded_plugins()
    write_atomic(RunDir(run_dir).record, dump_json(record))


def _other_format(run_dir: Path, found: int, writer: str) -> str:
    return (
        f"{run_dir} contains a run of format {found}, written by {writer}; this version, {__version__}, reads and "
        "writes "
        f"format {FORMAT} only: use the version that wrote it, or choose another run directory"
    )
