"""The settings of a training run. This module does not import PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from fastvae.distributed import (
    DDPConfig,
    DeepSpeedConfig,
    FSDPConfig,
    StrategyName,
    StrategyOptions,
    find_strategy,
)
from fastvae.durations import Clock, Duration, DurationOrNone
from fastvae.objective import ObjectiveConfig
from fastvae.settings import setting
from fastvae.train.optim_config import OptimConfig
from fastvae.train.watch.config import CollapseConfig, EarlyStoppingConfig, GuardConfig, PlateauConfig

GENERATOR = "generator"
"""Name of the player whose model is the argument of `fastvae.train`: the model that is evaluated and exported."""
LoggerName = Literal["tensorboard", "wandb", "mlflow"]
MatmulLibrary = Literal["auto", "default"]
_NONE = (0, "0ep", "0%")  # the durations of no steps


@dataclass(frozen=True, kw_only=True)
class TrainConfig(OptimConfig):
    """How a model is trained. Batch sizes are in examples, steps are optimizer steps. A duration is a number of steps
    such as 1000, of epochs such as 2.5ep, or a share of the run such as 10%.
    """

    _where = "train"

    task: str = setting("elbo", advanced=True)
    """How a step is taken, a name of `fastvae.train.TASKS`: elbo, or one that a plugin registers."""
    epochs: float = setting(100.0, changes_result=False)
    """Length of the run in epochs: passes over the training set. The schedules span the run."""
    steps: int | None = setting(None, changes_result=False)
    """Length of the run in optimizer steps, instead of epochs; None for the epochs."""
    global_batch_size: int = 128
    """Number of examples per optimizer step, over all processes and micro-batches; at most the training set."""
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
    check_replicas: DurationOrNone = setting(None, changes_result=False, advanced=True)
    """Duration between checks that all ranks have the same weights bit for bit; None for off."""
    timeout: float = setting(600.0, changes_result=False, advanced=True)
    """Seconds that a process waits for another one: at the start, in a collective operation, or for a heartbeat (sent
    twice per second). Then the run ends within 5 more seconds, with an error that names the rank. A rank that computes
    for this long while others wait, or holds Python's lock for this long in one call, also ends the run."""
    log_every: Duration = setting(50, changes_result=False)
    """Duration between lines in metrics.jsonl."""
    eval_every: DurationOrNone = setting(None, changes_result=False)
    """Duration between evaluations, on the validation set if there is one, else on the test set; None evaluates at the
    end only, or at every 2% of the run if early stopping, the best weights or a plateau need it."""
    keep_best: bool = False
    """Evaluate, export and load the weights with the best validation_metric, instead of the last ones."""
    validation_metric: Literal["loss", "ndcg_100"] = setting("loss", advanced=True)
    """What the best weights, early stopping and the plateau follow on the validation set: the loss, or NDCG@100 of a
    recommender, for which a fifth of each validation user's items is held out and ranked."""
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    """When the run ends before its last step."""
    plateau: PlateauConfig = setting(PlateauConfig, advanced=True)
    """When the learning rates are lowered."""
    checkpoint_every: DurationOrNone = setting(1000, changes_result=False)
    """Duration between checkpoints; None saves at the end and on a stop signal only."""
    keep_checkpoints: int = setting(2, changes_result=False, advanced=True)
    """Number of newest checkpoints to keep."""
    keep_every: DurationOrNone = setting(None, changes_result=False, advanced=True)
    """Also keep every checkpoint at a multiple of this duration; None keeps the newest only."""
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
    pictures_every: int | None = setting(None, changes_result=False, advanced=True)
    """Show samples and reconstructions in the loggers at every Nth evaluation; None for off."""
    loggers: tuple[LoggerName, ...] = setting(("tensorboard",), changes_result=False, advanced=True)
    """Where metrics are written besides metrics.jsonl: tensorboard, wandb (Weights & Biases) and mlflow."""
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
        for name in ("global_batch_size", "accumulation", "keep_checkpoints", "eval_batch_size"):
            _require(getattr(self, name) >= 1, name, "must be at least 1", getattr(self, name))
        _require(math.isfinite(self.epochs) and self.epochs > 0, "epochs", "must be a positive number", self.epochs)
        _require(self.steps is None or self.steps >= 1, "steps", "must be at least 1, or None for epochs", self.steps)
        _require(self.log_every not in _NONE, "log_every", "must be at least 1 step", self.log_every)
        for name in ("eval_every", "checkpoint_every", "keep_every", "check_replicas"):
            value = getattr(self, name)
            _require(value not in _NONE, name, "must be at least 1 step, or None for off", value)
        every = self.pictures_every
        _require(every is None or every >= 1, "pictures_every", "must be at least 1, or None for off", every)
        _require(self.final_samples >= 1, "final_samples", "must be at least 1", self.final_samples)
        _require(self.ema is None or 0 < self.ema < 1, "ema", "must be in (0, 1), or None for off", self.ema)
        for option, rule in find_strategy(self.strategy).refuse(self.strategy_options(self)):
            name = "objective.autoencoder_phase" if option == "edits_optimizer_state" else option
            raise ValueError(f"train.{name} {rule}")
        _require(self.grace_seconds > 0, "grace_seconds", "must be positive", self.grace_seconds)
        _require(math.isfinite(self.timeout) and self.timeout > 0, "timeout", "must be a positive number", self.timeout)

    @property
    def follows_validation(self) -> bool:
        """Whether the run needs a validation set and evaluations during training."""
        patiences = (self.early_stopping.patience, self.plateau.patience)
        return self.keep_best or any(patience is not None for patience in patiences)

    @property
    def num_steps(self) -> int:
        """Number of optimizer steps of the run.

        Raises:
            ValueError: the run is in epochs; `in_steps` converts it.
        """
        if self.steps is None:
            raise ValueError(f"train.epochs={self.epochs:g} depends on the data; fastvae.train.in_steps converts it")
        return self.steps

    def strategy_options(
        self, optim: OptimConfig, num_players: int = 1, *, own_optimizer: bool = False
    ) -> StrategyOptions:
        """Return the requirements of this run on the strategy of one of its models.

        Args:
            optim: settings of that model's optimizer.
            num_players: number of models that the run trains.
            own_optimizer: whether its optimizer is a user's.
        """
        return StrategyOptions(
            precision=self.precision,
            accumulation=self.accumulation,
            max_grad_norm=optim.max_grad_norm,
            optimizer="custom" if own_optimizer else optim.optimizer,
            compile=self.compile,
            capture=self.capture,
            edits_optimizer_state=self.objective.autoencoder_phase not in _NONE,
            num_players=num_players,
            ddp=self.ddp,
            fsdp=self.fsdp,
            deepspeed=self.deepspeed,
        )


def in_steps(config: TrainConfig, num_examples: int) -> TrainConfig:
    """Return settings for that many training examples: durations in steps, the batch at most all of them."""
    clock = run_clock(config, num_examples)
    return replace(clock.convert(config), steps=clock.num_steps, global_batch_size=clock.global_batch_size)


def run_clock(config: TrainConfig, num_examples: int) -> Clock:
    """Return the clock of a run on a training set of this size."""
    batch = min(config.global_batch_size, num_examples)
    clock = Clock(num_examples=num_examples, global_batch_size=batch)
    return replace(clock, num_steps=clock.run_length(config.epochs) if config.steps is None else config.steps)


def _require(holds: bool, name: str, rule: str, value: object) -> None:
    if not holds:
        raise ValueError(f"train.{name} {rule}, got {value!r}")
