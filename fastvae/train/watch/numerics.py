"""Find what was not finite in a step, and the first module that produced it, by running the step again.

A skipped step did not change the parameters, and noise and batch are functions of the step, so a second pass computes
the same values. It runs on a copy of the model on every rank, without communication, monitored by hooks.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fastvae.distributed import Strategy
from fastvae.objective import build_objective
from fastvae.records import KeyedBatch
from fastvae.train.config import TrainConfig
from fastvae.train.step import autocast, forward, free_bits_ahead
from fastvae.train.watch.scale import scale_advice

_TEXT_BYTES = 1024  # size of a rank's finding, as it is sent to the others
_SHOWN = 3  # names of a list before "and N more"


@dataclass
class Finding:
    """What was not finite, in the order of computation; empty lists if everything was finite."""

    weights: list[str] = field(default_factory=list)  # parameters, before the step
    batch: list[str] = field(default_factory=list)  # fields of the batch
    terms: list[str] = field(default_factory=list)  # rate, distortion, loss
    gradients: list[str] = field(default_factory=list)  # parameters whose gradient
    module: str | None = None  # the first module with a non-finite output from finite inputs
    scale: str | None = None  # a remedy for data on a large scale; not a finding by itself

    def __bool__(self) -> bool:
        return bool(self.weights or self.batch or self.terms or self.gradients or self.module)

    def text(self) -> str:
        """One line: the module, the terms, the parameters, and what may help."""
        not_finite = [
            *(f"weight {name}" for name in _some(self.weights)),
            *(f"batch.{name}" for name in self.batch),
            *self.terms,
            *(f"gradient of {name}" for name in _some(self.gradients)),
        ]
        maker = f"the first module to produce it was {self.module}; " if self.module else ""
        return f"{maker}not finite: {', '.join(not_finite) or 'nothing else'}; {self._advice()}"

    def _advice(self) -> str:
        if self.weights:
            return "the weights are not finite: resume from an earlier checkpoint, or check the initialisation"
        if self.batch:
            return "check the data: examples must be finite numbers"
        if self.scale is not None:
            return self.scale
        if "rate" in self.terms:
            return "the log variance of q(z|x) left its range: lower --train.lr, or set --train.max-grad-norm"
        if "distortion" in self.terms:
            return "the likelihood's variance or the data's scale left its range: scale the data, or lower --train.lr"
        return "lower --train.lr, set --train.max-grad-norm, or use --train.precision fp32"


def diagnose(strategy: Strategy, micro_batches: Sequence[KeyedBatch], config: TrainConfig, kl_weight: float) -> str:
    """Explain what was not finite in a skipped step; called by all ranks together, each with its own batches.

    Returns:
        The finding of the lowest rank that has one, the same text on every rank.
    """
    watched, finding = _copy_and_look(strategy, micro_batches)
    free_bits = free_bits_ahead(strategy, watched, micro_batches, config)
    probe = Probe(watched)
    for micro in micro_batches:
        with autocast(strategy.world.device, config.precision):
            terms = forward(watched, micro, config.objective)
        loss = build_objective(config.objective, terms, kl_weight=kl_weight, free_bits=free_bits).loss
        loss.sum().div(config.global_batch_size).backward()
        parts = {"rate": terms.rate, "distortion": terms.distortion, "penalty": terms.penalty, "loss": loss}
        found = _not_finite(parts)
        finding.terms += [name for name in found if name not in finding.terms]
    finding.gradients = _not_finite({name: p.grad for name, p in watched.named_parameters()})
    finding.module = probe.culprit()
    otherwise = (
        "when repeated, the values of every rank were finite: their sum over the batch or the ranks overflowed; "
        "lower --train.lr or scale the data"
    )
    return _first_finding(strategy, finding, otherwise)


def diagnose_state(strategy: Strategy, micro_batches: Sequence[KeyedBatch]) -> str:
    """The same as ``diagnose`` for a user's task, from the weights and the batch only."""
    otherwise = "weights and batch were finite; check the task's loss, or lower the learning rate"
    return _first_finding(strategy, _copy_and_look(strategy, micro_batches)[1], otherwise)


def _copy_and_look(strategy: Strategy, micro_batches: Sequence[KeyedBatch]) -> tuple[nn.Module, Finding]:
    """Return a copy of the model without a strategy's hooks, and what is not finite in it and in the batches."""
    with strategy.whole_model() as model, torch.enable_grad():
        watched = copy.deepcopy(model).to(strategy.world.device)
    weights = _not_finite(dict(watched.named_parameters()))
    finding = Finding(weights=weights, scale=scale_advice(watched, micro_batches))
    for micro in micro_batches:
        batch = {part.name: getattr(micro.batch, part.name) for part in fields(micro.batch)}
        finding.batch += [name for name in _not_finite(batch) if name not in finding.batch]
    return watched, finding


class Probe:
    """Monitor a model's modules for the first NaN or infinity that is computed from finite inputs."""

    def __init__(self, model: nn.Module) -> None:
        self._kinds = {path: type(module).__name__ for path, module in model.named_modules()}
        self._forward: str | None = None
        self._backward: tuple[int, str] | None = None  # tensor whose gradient was first, its module
        self._parameter: str | None = None  # the module whose parameter's gradient was first
        self._gradients_finite: dict[str, bool] = {}  # whether the gradients of a module's results were finite
        self._readers: dict[int, list[str]] = {}  # modules that received a tensor, outer ones first
        self._kept: list[Tensor] = []  # keeps the tensors alive, so that no id() is used twice
        for path, module in model.named_modules():
            module.register_forward_pre_hook(partial(self._enter, path), with_kwargs=True)
            module.register_forward_hook(partial(self._leave, path), with_kwargs=True)
            for parameter in module.parameters(recurse=False):
                if parameter.requires_grad:
                    parameter.register_hook(partial(self._saw_parameter, path))

    def culprit(self) -> str | None:
        """The path of the module, and whether its forward or backward pass was first; None if all was finite."""
        if self._forward is not None:
            return f"{self._name(self._forward)} in its forward"
        if self._parameter is not None:
            return f"{self._name(self._parameter)} in its backward"
        if self._backward is None:
            return None
        number, giver = self._backward
        readers = [path for path in self._readers.get(number, []) if self._gradients_finite.get(path, False)]
        if readers:
            return f"{self._name(readers[-1])} in its backward"
        return f"the backward of what follows {self._name(giver)}"

    def _name(self, path: str) -> str:
        return f"module {path} ({self._kinds[path]})" if path else f"the model itself ({self._kinds[path]})"

    def _enter(self, path: str, module: nn.Module, inputs: Any, options: Any) -> None:
        for tensor in _tensors((inputs, options)):
            if tensor.requires_grad:
                self._kept.append(tensor)
                self._readers.setdefault(id(tensor), []).append(path)

    def _leave(self, path: str, module: nn.Module, inputs: Any, options: Any, result: Any) -> None:
        results = list(_tensors(result))
        if self._forward is None and not _all_finite(results) and _all_finite(_tensors((inputs, options))):
            self._forward = path
        for tensor in results:
            if tensor.requires_grad:
                self._kept.append(tensor)
                tensor.register_hook(partial(self._saw_gradient, path, id(tensor)))

    def _saw_gradient(self, path: str, number: int, gradient: Tensor) -> None:
        finite = _all_finite([gradient])
        self._gradients_finite[path] = self._gradients_finite.get(path, True) and finite
        if not finite and self._backward is None and self._parameter is None:
            self._backward = (number, path)

    def _saw_parameter(self, path: str, gradient: Tensor) -> None:
        if self._backward is None and self._parameter is None and not _all_finite([gradient]):
            self._parameter = path


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the floating-point tensors in nested tuples, lists, mappings and records."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
        return
    parts: Iterable[Any] = ()
    if isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, tuple | list):
        parts = value
    elif is_dataclass(value) and not isinstance(value, type):
        parts = [getattr(value, part.name) for part in fields(value)]
    for part in parts:
        yield from _tensors(part)


def _all_finite(tensors: Iterable[Tensor]) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def _not_finite(named: Mapping[str, Tensor | None]) -> list[str]:
    return [name for name, tensor in named.items() if tensor is not None and not _all_finite([tensor])]


def _some(names: list[str]) -> list[str]:
    more = len(names) - _SHOWN
    return names if more <= 1 else [*names[:_SHOWN], f"{more} more"]


def _first_finding(strategy: Strategy, finding: Finding, otherwise: str) -> str:
    """Return the text of the lowest rank with a finding, on every rank; ``otherwise`` if there is none."""
    world = strategy.world
    texts = torch.zeros(world.world_size, _TEXT_BYTES, dtype=torch.int32, device=world.device)
    own = finding.text().encode()[:_TEXT_BYTES] if finding else b""
    texts[world.rank, : len(own)] = torch.tensor(list(own), dtype=torch.int32, device=world.device)
    for rank, row in enumerate(strategy.all_reduce_sum(texts).tolist()):
        text = bytes(row).rstrip(b"\0").decode(errors="ignore")
        if text:
            return f"rank {rank}: {text}" if world.world_size > 1 else text
    return otherwise
