"""Open folders of shards like a run and print as JSON which files were opened and what was read."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from fastvae.data import DataConfig, Loader, build_data

opened: list[str] = []


def watch(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str | Path):
        opened.append(str(arguments[0]))


def start(folder: str, rank: int, world_size: int) -> dict[str, Any]:
    """Read six steps of one rank."""
    opened.clear()
    data = build_data(DataConfig(name="file", path=Path(folder)), seed=3)
    loader = Loader(data.train, data.preprocess, global_batch_size=8, seed=3, rank=rank, world_size=world_size)
    at_start = files_of(folder)
    batches = [micro.batch.x for step in range(6) for micro in loader.load(step)]
    return {"at_start": at_start, "in_all": files_of(folder), "x": torch.cat(batches).flatten(1).tolist()}


def files_of(folder: str) -> list[str]:
    return sorted({path.removeprefix(folder) for path in opened if path.startswith(folder)})


if __name__ == "__main__":
    sys.addaudithook(watch)
    print(json.dumps([start(*job) for job in json.loads(sys.argv[1])]))
