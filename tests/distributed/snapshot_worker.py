"""Save and load a small model, its averages and some other tensors under each of the strategies named."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from fastvae.distributed import (
    DeepSpeedConfig,
    SideGroup,
    StrategyOptions,
    World,
    build_strategy,
    enter_world,
    write_tensors,
)


def write_and_load(name: str, folder: Path, world: World) -> bool:
    """Whether what was changed after a snapshot is as it was before, once the snapshot is loaded."""
    kind, _, stage = name.partition(" ")
    options = StrategyOptions(deepspeed=DeepSpeedConfig(stage=int(stage or 0)))
    strategy = build_strategy(kind, world, options)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    strategy.setup(model, lambda named: torch.optim.Adam([p for _, p in named], lr=0.1, fused=True))
    with strategy.accumulate(last=True):
        strategy.backward(strategy.module(torch.ones(2, 3)).sum())
    strategy.step(None)
    averages = {n: p.clone() for n, p in strategy.full_precision_parameters().items() if n.startswith("1.")}
    replicated = {"level": torch.tensor(3.5), "counts": torch.arange(5)}
    everything: dict[str, Tensor] = {**strategy.full_precision_parameters(), **replicated}
    everything |= {f"averages.{name}": average for name, average in averages.items()}
    before = {name: tensor.clone() for name, tensor in everything.items()}
    group = SideGroup(world)
    tensors = strategy.snapshot(averages, replicated)
    write_tensors(
        folder, {f"one.{name}": tensor for name, tensor in tensors.items()} | {"two.x": torch.ones(1)}, group.group
    )
    with torch.no_grad():
        for tensor in everything.values():
            tensor.add_(1)
    assert not any(torch.equal(tensor, before[name]) for name, tensor in everything.items() if tensor.numel())
    strategy.load(folder, averages, replicated, prefix="one.")
    is_equal = all(torch.equal(tensor, before[name]) for name, tensor in everything.items())
    strategy.close()
    return is_equal


def main() -> None:
    root = Path(sys.argv[1])
    with enter_world("cpu", timeout_s=120) as world:
        equal = {}
        for name in sys.argv[2:]:
            folder = root / f"{name} {world.world_size}"
            if world.is_main:
                folder.mkdir()
            world.barrier()
            equal[name] = write_and_load(name, folder, world)
        (root / f"equal_{world.world_size}_{world.rank}.json").write_text(json.dumps(equal))


if __name__ == "__main__":
    main()
