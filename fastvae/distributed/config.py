"""Settings of the strategies. This module does not import PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastvae.distributed.deepspeed_settings import DeepSpeedConfig
from fastvae.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class DDPConfig(Settings):
    """Settings of strategy ddp."""

    bucket_mib: float = setting(25.0, changes_result=False)
    """Approximate size of the buckets of gradients that are reduced during the backward pass, in MiB."""
    static_graph: bool = setting(False, changes_result=False)
    """Declare that every step uses the same parameters in the same order, so that DDP plans its communication once.
    Requires accumulation 1: otherwise DDP would reduce the gradients of the last micro-batch only."""
    compress_gradients: bool = False
    """Send gradients as bfloat16: half the bytes, but 8 bits of precision, so results differ from one process."""

    def __post_init__(self) -> None:
        if not self.bucket_mib > 0:
            raise ValueError(f"train.ddp.bucket_mib must be positive, got {self.bucket_mib}")


@dataclass(frozen=True, kw_only=True)
class FSDPConfig(Settings):
    """Settings of strategy fsdp."""

    reshard_after_forward: bool = setting(True, changes_result=False)
    """Free the gathered weights of a block after its forward pass and gather them again for its backward pass."""
    cpu_offload: bool = setting(False, changes_result=False)
    """Keep the shards of weights, gradients and optimizer state in host memory, and update them there."""


@dataclass(frozen=True, kw_only=True)
class StrategyOptions:
    """Requirements of a run on its strategy, and the settings of every strategy."""

    precision: str = "fp32"
    """Precision: fp32, or bf16 autocast."""
    accumulation: int = 1
    """Number of micro-batches per optimizer step."""
    max_grad_norm: float | None = None
    """2-norm that the gradient is clipped to, or None."""
    compile: bool = False
    """Whether the module is compiled after it is wrapped."""
    capture: bool = False
    """Whether the step is captured as a CUDA graph."""
    optimizer: str = "adamw"
    """Name of the optimizer; custom for a user's."""
    edits_optimizer_state: bool = False
    """Whether the optimizer state of single parameters is changed between steps."""
    num_players: int = 1
    """Number of models that are trained together; each has its own strategy."""
    ddp: DDPConfig = field(default_factory=DDPConfig)
    """Settings of strategy ddp."""
    fsdp: FSDPConfig = field(default_factory=FSDPConfig)
    """Settings of strategy fsdp."""
    deepspeed: DeepSpeedConfig = field(default_factory=DeepSpeedConfig)
    """Settings of strategy deepspeed."""
