"""DeepSpeed's ZeRO, stages 1 to 3: what is sharded over ranks, and how it is gathered for a checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fastvae.distributed.config import StrategyOptions
from fastvae.distributed.deepspeed import DeepSpeedStrategy, import_deepspeed
from fastvae.distributed.deepspeed_settings import engine_settings
from fastvae.distributed.replicas import compare_replicas
from fastvae.distributed.snapshot import copy_to_host
from fastvae.distributed.strategy import Accept, BuildOptimizer, Copies, StepReport
from fastvae.distributed.tensors import read_tensors
from fastvae.distributed.world import World


def build_deepspeed(world: World, options: StrategyOptions) -> DeepSpeedStrategy:
    """Build the strategy of the configured stage.

    Raises:
        ValueError: there is no process group, DeepSpeed is not installed, or its settings contradict each other.
    """
    if not dist.is_initialized():
        raise ValueError("strategy deepspeed requires a launcher: start with torchrun or deepspeed, or use single")
    settings = engine_settings(
        options.deepspeed, precision=options.precision, accumulation=options.accumulation, clip=options.max_grad_norm
    )
    kind = ZeROStrategy if settings["zero_optimization"]["stage"] else DeepSpeedStrategy
    return kind(world, settings, import_deepspeed(world))


@dataclass(frozen=True)
class _Share:
    """Location of this rank's shard of a parameter: a range in one of the optimizer's flat tensors."""

    flat: Tensor | None  # None if this rank has no part
    first: int  # start of the part in the flat tensor
    offset: int  # start of the part in the flattened parameter
    numel: int

    def of(self, flat: Tensor) -> Tensor:
        return flat.narrow(0, self.first, self.numel)


class ZeROStrategy(DeepSpeedStrategy):
    """Stages 1 to 3: the float32 weights that the optimizer updates, and its state, are sharded over ranks.

    The engine clips, and skips a gradient that is not finite. Checkpoints contain whole tensors by parameter name, as
    every strategy's do; DeepSpeed's own files are pickles and are never written nor read.
    """

    _accept: Accept | None = None
    _grad_norm: Tensor | None = None

    def setup(self, model: nn.Module, build_optimizer: BuildOptimizer, methods: Sequence[str] = ()) -> None:
        self.model = model
        self._shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
        shards_weights = self._settings["zero_optimization"]["stage"] == 3
        sharded = copy.deepcopy(model).to(self.world.device)
        if shards_weights:  # stage 3 cannot shard a parameter without a dimension (0.19.8): add one
            for parameter in sharded.parameters():
                parameter.data = parameter.data.view(parameter.shape or (1,))
            for module in sharded.modules():
                module.register_forward_hook(_open_record)
        self._start(sharded, build_optimizer, self._settings)
        if shards_weights:
            for module in sharded.modules():
                module.register_forward_hook(_close_record)
        self._watch_norm("_get_norm_groups" if shards_weights else "scaled_global_norm")
        find = self._sharded_weight if shards_weights else self._sharded_state
        self._shares = {name: find(parameter) for name, parameter in self.trained.named_parameters()}

    def _sharded_state(self, parameter: nn.Parameter) -> _Share:
        mapping = parameter._hp_mapping  # type: ignore[attr-defined]
        if mapping is None:
            return _Share(None, 0, 0, 0)
        zero, there, here = self._engine.optimizer, mapping.hp_fragment_address, mapping.lp_fragment_address
        flats = zero.single_partition_of_fp32_groups
        [flat] = [flat for flat in flats if flat.untyped_storage().data_ptr() == _storage(mapping.hp_fragment)]
        return _Share(flat, there.start, here.start, there.numel)

    def _sharded_weight(self, parameter: nn.Parameter) -> _Share:
        zero = self._engine.optimizer
        group, first, size = zero.grad_position[zero.get_param_id(parameter)]
        offset = self.world.rank * size
        numel = max(0, min(size, parameter.ds_numel - offset))  # type: ignore[attr-defined]
        return _Share(zero.fp32_partitioned_groups_flat[group] if numel else None, first, offset, numel)

    def _watch_norm(self, name: str) -> None:
        """Make the engine call ``accept`` once it has computed the gradient's norm.

        The engine clips and updates in one call, and skips a step whose norm is NaN (0.19.8): so it gets NaN to skip.
        """
        zero = self._engine.optimizer
        work_out = getattr(zero, name)

        def watched() -> Any:
            norms = work_out()
            groups = norms if isinstance(norms, list) else [norms]
            parts = torch.stack([torch.as_tensor(group, dtype=torch.float32) for group in groups])
            # The engine writes -1 for a norm that is not finite.
            norm = torch.where(parts.min() < 0, torch.nan, torch.linalg.vector_norm(parts)).to(self.world.device)
            self._grad_norm = norm
            if self._accept is None or bool(self._accept(norm)):
                return norms
            refused = torch.full_like(parts[0], torch.nan)
            return [refused for _ in norms] if isinstance(norms, list) else refused

        setattr(zero, name, watched)

    def step(self, max_grad_norm: float | None, accept: Accept | None = None) -> StepReport:
        if (max_grad_norm or 0.0) != self._settings["gradient_clipping"]:
            raise ValueError("strategy deepspeed: max_grad_norm is fixed when the engine is built and cannot change")
        self._accept, self._grad_norm = accept, None
        self._engine.step()
        if self._grad_norm is None:  # the engine found an infinity before it computed the norm
            self._grad_norm = torch.full((), torch.inf, device=self.world.device)
            if accept is not None:
                accept(self._grad_norm)
        overflow = bool(self._engine.optimizer.overflow)  # the engine has already synchronised
        skipped = torch.full((), overflow, dtype=torch.bool, device=self.world.device)
        return StepReport(grad_norm=self._grad_norm.detach(), skipped=skipped)

    def full_precision_parameters(self) -> dict[str, Tensor]:
        nothing = torch.empty(0, device=self.world.device)
        return {n: nothing if s.flat is None else s.of(s.flat.detach()) for n, s in self._shares.items()}

    @contextmanager
    def whole_model(self) -> Iterator[nn.Module]:
        home = next((parameter.device for parameter in self.model.parameters()), torch.device("cpu"))
        self.model.to(self.world.device)
        shares = self.full_precision_parameters()
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(self._gather(name, shares[name]))
            buffers = dict(self.trained.named_buffers())
            for name, buffer in self.model.named_buffers():
                buffer.copy_(buffers[name])
        try:
            yield self.model
        finally:
            self.model.to(home)

    def check_replicas(self) -> None:
        if self._settings["zero_optimization"]["stage"] == 3:
            raise ValueError(
                "check_replicas: deepspeed stage 3 shards the weights, there are no replicas; set it to None"
            )
        compare_replicas({name: p.detach() for name, p in self.trained.named_parameters()}, self.world)

    def _gather(self, name: str, share: Tensor | None) -> Tensor:
        """Return the whole tensor in its parameter's shape, from every rank's part."""
        whole = torch.zeros(self._shapes[name].numel(), device=self.world.device)
        if share is not None and share.numel():
            self._part(name, whole).copy_(share)
        dist.all_reduce(whole)
        return whole.view(self._shapes[name])

    def _part(self, name: str, whole: Tensor) -> Tensor:
        share = self._shares[name]
        return whole.flatten().narrow(0, share.offset, share.numel)

    def _moments(self, name: str) -> dict[str, Tensor]:
        """Return the optimizer's state of the flat tensor with this rank's part; zeros before the first step."""
        flat = self._shares[name].flat
        if flat is None:
            return {}
        state = self.optimizer.state[flat]
        if not state:  # the initial state of PyTorch's fused Adam
            state["step"] = torch.zeros((), device=flat.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(flat.data), torch.zeros_like(flat.data)
        return dict(state)

    def _tensors(self, copies: Copies, replicated: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return every tensor of the checkpoint, whole and new: reading into them does not change the engine."""
        tensors = {f"model.{name}": buffer.clone() for name, buffer in self.trained.named_buffers()}
        shares = self.full_precision_parameters()
        for name, share in self._shares.items():
            tensors[f"model.{name}"] = self._gather(name, shares[name])
            moments = self._moments(name)
            for key in ("exp_avg", "exp_avg_sq"):
                part = share.of(moments[key]) if moments else None
                tensors[f"optimizer.state.{name}.{key}"] = self._gather(name, part)
            step = moments["step"].to(self.world.device) if moments else torch.zeros((), device=self.world.device)
            step = step.detach().clone()
            dist.all_reduce(step, op=dist.ReduceOp.MAX)
            tensors[f"optimizer.state.{name}.step"] = step
        for group, values in copies.items():
            for name, share_of_value in values.items():
                tensors[f"{group}.{name}"] = self._gather(name, share_of_value)
        for name, tensor in replicated.items():
            tensors[f"replicated.{name}"] = tensor.clone()
        return tensors

    def snapshot(self, copies: Copies, replicated: Mapping[str, Tensor]) -> dict[str, Tensor]:
        tensors = {name: tensor.detach() for name, tensor in self._tensors(copies, replicated).items()}  # new ones
        return tensors if self.world.device.type == "cpu" else copy_to_host(tensors)

    @torch.no_grad()
    def load(self, directory: Path, copies: Copies, replicated: Mapping[str, Tensor], prefix: str = "") -> None:
        tensors = self._tensors(copies, replicated)
        read_tensors(directory, tensors, self.world, prefix)
        for name, buffer in self.trained.named_buffers():
            buffer.copy_(tensors[f"model.{name}"])
        shares = self.full_precision_parameters()
        for name, parameter in self.trained.named_parameters():
            whole = tensors[f"model.{name}"]
            if hasattr(parameter, "ds_tensor"):
                parameter.ds_tensor.narrow(0, 0, self._shares[name].numel).copy_(self._part(name, whole))
            else:
                parameter.copy_(whole)
            if self._shares[name].flat is None:
                continue
            shares[name].copy_(self._part(name, whole))
            moments = self._moments(name)
            for key in ("exp_avg", "exp_avg_sq"):
                value = tensors[f"optimizer.state.{name}.{key}"]
                self._shares[name].of(moments[key]).copy_(self._part(name, value))
            moments["step"].copy_(tensors[f"optimizer.state.{name}.step"])
        for group, values in copies.items():
            for name, share_of_value in values.items():
                share_of_value.copy_(self._part(name, tensors[f"{group}.{name}"]))
        for name, tensor in replicated.items():
            tensor.copy_(tensors[f"replicated.{name}"])


class _OpenRecord(dict[str, Any]):
    """The fields of a record, by name."""

    kind: type


def _open_record(module: nn.Module, inputs: Any, output: Any) -> Any:
    """Stage 3 hooks the tensors that a module returns, but only in tuples and dicts (0.19.8)."""
    if not is_dataclass(output) or isinstance(output, type):
        return output
    opened = _OpenRecord({field.name: getattr(output, field.name) for field in fields(output)})
    opened.kind = type(output)
    return opened


def _close_record(module: nn.Module, inputs: Any, output: Any) -> Any:
    return output.kind(**output) if isinstance(output, _OpenRecord) else output


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
