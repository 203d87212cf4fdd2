"""The settings of a training run. This module does not import PyTorch."""

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
"""Name of the player whose model is the argument of `fastvae.train`: the model that is evaluated and exported."""
MatmulLibrary = Literal["auto", "default"]


@dataclass(frozen=True, kw_only=True)
class GuardConfig(Settings):
    """Which steps are skipped (by all ranks together), and when the run stops."""

    stop_after: int = setting(10, changes_result=False)
    """Stop after this many consecutive steps whose loss or gradient is not finite; each of them is skipped."""
    spike_sigma: float | None = 8.0
    """Skip a step whose loss or gradient norm is this many standard deviations above its running mean; None for off."""
    spike_window: int = 200
    """Window of the running mean and standard deviation, in steps; no step is skipped before it is full."""
    spikes_in_a_row: int = 3
    """After this many consecutive skipped spikes, the new level is accepted and the window restarts."""

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
    """When a run warns that its decoder ignores the latent (posterior collapse)."""

    min_active: float | None = setting(0.1, changes_result=False)
    """Warn if less than this fraction of the latent units is active; None for off."""
    evaluations: int = setting(3, changes_result=False)
    """Number of consecutive evaluations below min_active before the warning."""

    def __post_init__(self) -> None:
        if self.min_active is not None and not 0 < self.min_active <= 1:
            raise ValueError(f"train.collapse.min_active must be in (0, 1], or None for off, got {self.min_active}")
        if self.evaluations < 1:
            raise ValueError(f"train.collapse.evaluations must be at least 1, got {self.evaluations}")


@dataclass(frozen=True, kw_only=True)
class OptimConfig(Settings):
    """How one model's parameters are updated. `TrainConfig` is a subclass, for the model that is passed to `train`."""

    _where = "optim"  # prefix of the field names in error messages

    optimizer: Literal["adamw", "adam"] = "adamw"
    """AdamW (decoupled weight decay) or Adam; both use the fused implementation."""
    lr: float = 1e-3
    """Peak learning rate."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate after the warm-up: cosine decay to zero, or constant."""
    warmup_steps: int = 0
    """Number of steps of the learning rate's linear warm-up."""
    weight_decay: float = 0.0
    """Weight decay of the matrices; biases, norms and learned variances have none."""
    beta1: float = setting(0.9, advanced=True)
    """Decay of Adam's running average of gradients."""
    beta2: float = setting(0.999, advanced=True)
    """Decay of Adam's running average of squared gradients."""
    adam_eps: float = setting(1e-8, advanced=True)
    """Constant that Adam adds to the denominator."""
    max_grad_norm: float | None = None
    """Clip the gradient of the global batch to this 2-norm; None for off."""

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
    """How a model is trained. Steps are optimizer steps; batch sizes are in examples."""

    _where = "train"

    task: str = setting("elbo", advanced=True)
    """How a step is taken, a name of `fastvae.train.TASKS`: elbo, or one that a plugin registers."""
    steps: int = setting(1000, changes_result=False)
    """Number of optimizer steps of the run."""
    global_batch_size: int = 128
    """Number of examples per optimizer step, over all processes and micro-batches."""
    accumulation: int = setting(1, changes_result=False)
    """Number of micro-batches per step and process: more save memory and do not change the result."""
    ema: float | None = None
    """Decay of an exponential moving average of the weights, which evaluation uses; None for off."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision: fp32, or bf16 autocast (weights, losses and noise stay float32)."""
    compile: bool = setting(False, changes_result=False)
    """Compile the model with torch.compile; the first step takes up to a minute longer."""
    capture: bool = setting(False, changes_result=False, advanced=True)
    """Capture the whole step as a CUDA graph, with the data on the GPU. For one GPU and small models dominated by
    kernel-launch overhead."""
    matmul: MatmulLibrary = setting("auto", changes_result=False, advanced=True)
    """Library of float32 matrix products on the CPU; auto uses oneDNN if MKL does not use the processor's AVX-512."""
    deterministic: bool = setting(False, advanced=True)
    """Use deterministic algorithms of PyTorch and cuDNN and a fixed workspace of cuBLAS, so that a resume on a GPU is
    exact bit for bit. Slower (most for convolutions and embeddings), and needs some MiB of memory; an operator without
    a deterministic algorithm stops the run with an error. Runs on a CPU are exact without this option."""
    device: Literal["auto", "cpu", "cuda"] = setting("auto", changes_result=False)
    """Device to train on; auto is a GPU if one is available."""
    strategy: StrategyName = setting("auto", changes_result=False)
    """Parallelism strategy; auto is single for one process and ddp for several."""
    ddp: DDPConfig = field(default_factory=DDPConfig)
    """Settings of strategy ddp."""
    fsdp: FSDPConfig = field(default_factory=FSDPConfig)
    """Settings of strategy fsdp."""
    deepspeed: DeepSpeedConfig = field(default_factory=DeepSpeedConfig)
    """Settings of strategy deepspeed."""
    check_replicas: int | None = setting(None, changes_result=False, advanced=True)
    """Steps between checks that all ranks have the same weights bit for bit; None for off."""
    timeout: float = setting(600.0, changes_result=False, advanced=True)
    """Seconds that a process waits for another one: at the start, in a collective operation, or for a heartbeat (sent
    twice per second). Then the run ends within 5 more seconds, with an error that names the rank. A rank that computes
    for this long while others wait, or holds Python's lock for this long in one call, also ends the run."""
    log_every: int = setting(50, changes_result=False)
    """Steps between lines in metrics.jsonl."""
    eval_every: int | None = setting(None, changes_result=False)
    """Steps between evaluations on the test set; None evaluates at the end only."""
    checkpoint_every: int | None = setting(1000, changes_result=False)
    """Steps between checkpoints; None saves at the end and on a stop signal only."""
    keep_checkpoints: int = setting(2, changes_result=False)
    """Number of newest checkpoints to keep."""
    keep_every: int | None = setting(None, changes_result=False, advanced=True)
    """Also keep every checkpoint at a multiple of this many steps; None keeps the newest only."""
    save_in_background: bool = setting(True, changes_result=False, advanced=True)
    """Write checkpoints from a copy in host memory while training continues; False waits for the disk."""
    on_save_error: Literal["stop", "warn"] = setting("stop", changes_result=False, advanced=True)
    """If a checkpoint cannot be written, because a disk is full or fails: stop the run, or warn and continue. Earlier
    checkpoints are kept in both cases."""
    grace_seconds: float = setting(60.0, changes_result=False, advanced=True)
    """Seconds after a stop signal at which a run that has not stopped is ended; its newest checkpoint is kept."""
    eval_batch_size: int = setting(256, changes_result=False, advanced=True)
    """Batch size of evaluation per process; results do not depend on it."""
    final_samples: int = setting(100, changes_result=False)
    """Number of importance samples of the bound at the end of the run; 1 computes the ELBO only."""
    progress: bool = setting(True, changes_result=False, advanced=True)
    """Print progress and messages on standard error; if False, only metrics.jsonl has the numbers."""
    pictures: bool = setting(True, changes_result=False, advanced=True)
    """Draw samples, reconstructions and curves at the end of the run."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    """Settings of the objective."""
    guard: GuardConfig = setting(GuardConfig, advanced=True)
    """Which steps are skipped because of non-finite or unusual values, and when the run stops."""
    collapse: CollapseConfig = setting(CollapseConfig, advanced=True)
    """When the run warns of posterior collapse."""
    debug_numerics: bool = setting(False, changes_result=False, advanced=True)
    """Stop at the first step that is not finite, and name the first module whose output is NaN or infinite."""

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
        """Return the requirements of this run on the strategy of one of its models.

        Args:
            optim: settings of that model's optimizer.
            num_players: number of models that the run trains.
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
