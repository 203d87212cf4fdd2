"""The settings of a training run. Nothing here imports PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from fastvae.distributed import (
    DDPConfig,
    DeepSpeedConfig,
    FSDPConfig,
    StrategyName,
    StrategyOptions,
    find_strategy,
)
from fastvae.objective import ObjectiveConfig
from fastvae.settings import Settings, setting

GENERATOR = "generator"
"""The player that `fastvae.train` is given as ``model``: it is evaluated, and its weights are the run's result."""
MatmulLibrary = Literal["auto", "default"]


@dataclass(frozen=True, kw_only=True)
class GuardConfig(Settings):
    """Which steps are skipped, on all ranks together, and when the run gives up."""

    stop_after: int = setting(10, changes_result=False)
    """Stop after so many steps in a row whose loss or gradient was not finite; each of them was skipped."""
    spike_sigma: float | None = 8.0
    """Skip a step whose loss or gradient norm is so many standard deviations above its running mean; None for off."""
    spike_window: int = 200
    """Steps that mean and deviation look back over; as many pass before the first step is judged."""
    spikes_in_a_row: int = 3
    """After so many skipped spikes in a row the new level counts as usual, and the window begins anew."""

    def __post_init__(self) -> None:
        for name in ("stop_after", "spikes_in_a_row"):
            if getattr(self, name) < 1:
                raise ValueError(f"train.guard.{name} must be at least 1, got {getattr(self, name)}")
        if self.spike_window < 10:
            raise ValueError(f"train.guard.spike_window must be at least 10, got {self.spike_window}")
        if self.spike_sigma is not None and not (math.isfinite(self.spike_sigma) and self.spike_sigma >= 3):
            raise ValueError(
                f"train.guard.spike_sigma must be a number >= 3, or None for off, got {self.spike_sigma}; "
                "3 already skips clean steps"
            )


@dataclass(frozen=True, kw_only=True)
class CollapseConfig(Settings):
    """When a run warns that its decoder ignores the latent."""

    min_active: float | None = setting(0.1, changes_result=False)
    """Warn where less than this part of the latent units is active; None for off."""
    evaluations: int = setting(3, changes_result=False)
    """For so many evaluations in a row."""

    def __post_init__(self) -> None:
        if self.min_active is not None and not 0 < self.min_active <= 1:
            raise ValueError(f"train.collapse.min_active must be in (0, 1], or None for off, got {self.min_active}")
        if self.evaluations < 1:
            raise ValueError(f"train.collapse.evaluations must be at least 1, got {self.evaluations}")


@dataclass(frozen=True, kw_only=True)
class OptimConfig(Settings):
    """How one model's parameters are updated. `TrainConfig` is one, for the model that `train` is given."""

    _where = "optim"  # how messages name it

    optimizer: Literal["adamw", "adam"] = "adamw"
    """AdamW (decoupled weight decay) or Adam; both fused."""
    lr: float = 1e-3
    """Peak learning rate."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """How the learning rate goes on after the warm-up: down to zero along a half cosine, or level."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly from near zero to its peak."""
    weight_decay: float = 0.0
    """Weight decay; matrices only, never biases, norms or learned variances."""
    beta1: float = setting(0.9, advanced=True)
    """Decay of Adam's average of gradients."""
    beta2: float = setting(0.999, advanced=True)
    """Decay of Adam's average of squared gradients."""
    adam_eps: float = setting(1e-8, advanced=True)
    """Adam's addition to the denominator."""
    max_grad_norm: float | None = None
    """Clip the gradient of the global batch to this 2-norm; None leaves it as it is."""

    def __post_init__(self) -> None:
        self._require(math.isfinite(self.lr) and self.lr > 0, "lr", "must be a positive number")
        self._require(self.warmup_steps >= 0, "warmup_steps", "must be at least 0")
        for name in ("weight_decay", "adam_eps"):
            value = getattr(self, name)
            self._require(math.isfinite(value) and value >= 0, name, "must be a number >= 0")
        for name in ("beta1", "beta2"):
            self._require(0 <= getattr(self, name) < 1, name, "must be in [0, 1)")
        norm = self.max_grad_norm
        self._require(norm is None or norm > 0, "max_grad_norm", "must be positive, or None for off")

    def _require(self, holds: bool, name: str, rule: str) -> None:
        if not holds:
            raise ValueError(f"{self._where}.{name} {rule}, got {getattr(self, name)!r}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(OptimConfig):
    """How a model is trained. Counts are in optimizer steps and in examples over all processes."""

    _where = "train"

    steps: int = setting(1000, changes_result=False)
    """Optimizer steps of the whole run."""
    global_batch_size: int = 128
    """Examples in one optimizer step, over all processes and micro-batches together."""
    accumulation: int = setting(1, changes_result=False)
    """Micro-batches that each process splits its share of a global batch into; saves memory, changes no result."""
    ema: float | None = None
    """Decay of an exponential moving average of the weights, which evaluation then uses; None for off."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """fp32, or bf16 autocast (weights, losses and noise stay float32)."""
    compile: bool = setting(False, changes_result=False)
    """Compile the model with torch.compile; the first step then takes up to a minute longer."""
    capture: bool = setting(False, changes_result=False, advanced=True)
    """On one GPU: the whole step as a CUDA graph, the data on the GPU too; for small models, whose time is launches."""
    matmul: MatmulLibrary = setting("auto", changes_result=False, advanced=True)
    """Library of the CPU's float32 matrix products: auto takes oneDNN where MKL leaves the processor's AVX-512 idle."""
    deterministic: bool = setting(False, advanced=True)
    """For a resume on a GPU that is exact to the bit: PyTorch's deterministic algorithms, cuDNN's among them, and
    cuBLAS's fixed workspace. Costs speed (convolutions and embeddings most) and some MiB of memory; an operator without
    a deterministic way stops the run by its name. On a CPU runs are exact without it."""
    device: Literal["auto", "cpu", "cuda"] = setting("auto", changes_result=False)
    """Where to train; auto takes the GPU where there is one."""
    strategy: StrategyName = setting("auto", changes_result=False)
    """How processes cooperate; auto is single for one process and ddp for more."""
    ddp: DDPConfig = field(default_factory=DDPConfig)
    """Settings of strategy ddp."""
    fsdp: FSDPConfig = field(default_factory=FSDPConfig)
    """Settings of strategy fsdp."""
    deepspeed: DeepSpeedConfig = field(default_factory=DeepSpeedConfig)
    """Settings of strategy deepspeed."""
    check_replicas: int | None = setting(None, changes_result=False, advanced=True)
    """Steps between checks that all ranks hold the same weights, bit for bit; None for off."""
    timeout: float = setting(600.0, changes_result=False, advanced=True)
    """Seconds that a process waits for another one, to start, in a collective, or for a sign of life (each sends one
    twice a second); then the run ends within 5 s more, and the error names the rank. A rank that works that long while
    others wait, or that stays that long in one call that keeps Python's lock, ends the run too."""
    log_every: int = setting(50, changes_result=False)
    """Steps between lines in metrics.jsonl."""
    eval_every: int | None = setting(None, changes_result=False)
    """Steps between evaluations on the test set; None evaluates at the end only."""
    checkpoint_every: int | None = setting(1000, changes_result=False)
    """Steps between checkpoints; None saves at the end and on a stop signal only."""
    keep_checkpoints: int = setting(2, changes_result=False)
    """How many of the newest checkpoints are kept."""
    keep_every: int | None = setting(None, changes_result=False, advanced=True)
    """Also keep the checkpoints at multiples of this many steps, for good; None keeps the newest only."""
    save_in_background: bool = setting(True, changes_result=False, advanced=True)
    """Train on while a checkpoint is written, from a copy in the host's memory; False waits for the disk."""
    on_save_error: Literal["stop", "warn"] = setting("stop", changes_result=False, advanced=True)
    """When a disk is full or fails: stop the run, or warn and go on; the checkpoints that are there stay."""
    grace_seconds: float = setting(60.0, changes_result=False, advanced=True)
    """A run that has not stopped this long after a stop signal ends at once; its newest checkpoint stands."""
    eval_batch_size: int = setting(256, changes_result=False, advanced=True)
    """Examples that are evaluated at a time by each process; no result depends on it."""
    final_samples: int = setting(100, changes_result=False)
    """Importance samples of the bound that ends the run; 1 gives the ELBO only."""
    progress: bool = setting(True, changes_result=False, advanced=True)
    """Show the run's progress and its messages on standard error; without, metrics.jsonl alone has the numbers."""
    pictures: bool = setting(True, changes_result=False, advanced=True)
    """Draw samples, reconstructions and curves at the end of the run."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    """What is minimised."""
    guard: GuardConfig = setting(GuardConfig, advanced=True)
    """Which steps are skipped because their numbers went wrong, and when the run gives up."""
    collapse: CollapseConfig = setting(CollapseConfig, advanced=True)
    """When the run warns of posterior collapse."""
    debug_numerics: bool = setting(False, changes_result=False, advanced=True)
    """Stop at the first step that is not finite, and name the first module that made a NaN or an infinity."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("steps", "global_batch_size", "accumulation", "log_every", "keep_checkpoints", "eval_batch_size"):
            _require(getattr(self, name) >= 1, name, "must be at least 1", getattr(self, name))
        for name in ("eval_every", "checkpoint_every", "keep_every", "check_replicas"):
            value = getattr(self, name)
            _require(value is None or value >= 1, name, "must be at least 1, or None for off", value)
        _require(self.final_samples >= 1, "final_samples", "must be at least 1", self.final_samples)
        _require(self.ema is None or 0 < self.ema < 1, "ema", "must be in (0, 1), or None for off", self.ema)
        for option, rule in find_strategy(self.strategy).refuse(self.strategy_options(self)):
            name = "objective.autoencoder_steps" if option == "edits_optimizer_state" else option
            raise ValueError(f"train.{name} {rule}")
        _require(self.grace_seconds > 0, "grace_seconds", "must be positive", self.grace_seconds)
        _require(math.isfinite(self.timeout) and self.timeout > 0, "timeout", "must be a positive number", self.timeout)

    def strategy_options(self, optim: OptimConfig, num_players: int = 1) -> StrategyOptions:
        """What this run requires of the strategy of one of its models.

        Args:
            optim: how that model is updated.
            num_players: models that the run trains.
        """
        return StrategyOptions(
            precision=self.precision,
            accumulation=self.accumulation,
            max_grad_norm=optim.max_grad_norm,
            compile=self.compile,
            capture=self.capture,
            edits_optimizer_state=self.objective.autoencoder_steps > 0,
            num_players=num_players,
            ddp=self.ddp,
            fsdp=self.fsdp,
            deepspeed=self.deepspeed,
        )


def _require(holds: bool, name: str, rule: str, value: object) -> None:
    if not holds:
        raise ValueError(f"train.{name} {rule}, got {value!r}")
