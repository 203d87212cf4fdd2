"""Settings of the strategies. Nothing here imports PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastvae.distributed.deepspeed_settings import DeepSpeedConfig
from fastvae.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class DDPConfig(Settings):
    """Settings of strategy ddp."""

    bucket_mib: float = setting(25.0, changes_result=False)
    """Gradients cross the ranks in pieces of about this size, while the backward pass goes on."""
    static_graph: bool = setting(False, changes_result=False)
    """Promise that every step uses the same parameters in the same order: DDP then plans its exchange once. Not with
    accumulation, which DDP gets wrong here: gradients of all micro-batches but the last would not cross the ranks."""
    compress_gradients: bool = False
    """Send gradients as bfloat16: half the bytes, but 8 bits of precision, so another result than one process has."""

    def __post_init__(self) -> None:
        if not self.bucket_mib > 0:
            raise ValueError(f"train.ddp.bucket_mib must be positive, got {self.bucket_mib}")


@dataclass(frozen=True, kw_only=True)
class FSDPConfig(Settings):
    """Settings of strategy fsdp."""

    reshard_after_forward: bool = setting(True, changes_result=False)
    """Free a block's gathered weights after its forward and gather them again for its backward: less memory."""
    cpu_offload: bool = setting(False, changes_result=False)
    """Keep shares of weights, gradients and optimizer state in the host's memory, and update them there."""


@dataclass(frozen=True, kw_only=True)
class StrategyOptions:
    """What a run requires of its strategy, and the settings of each; a strategy reads its own."""

    precision: str = "fp32"
    """fp32, or bf16 autocast."""
    accumulation: int = 1
    """Micro-batches of one optimizer step."""
    max_grad_norm: float | None = None
    """The gradient is clipped to this 2-norm."""
    compile: bool = False
    """The module is compiled after it was wrapped."""
    capture: bool = False
    """The step becomes a CUDA graph."""
    edits_optimizer_state: bool = False
    """The optimizer's state is changed between steps, by parameter."""
    num_players: int = 1
    """Models that are trained together; each has a strategy of its own."""
    ddp: DDPConfig = field(default_factory=DDPConfig)
    """Settings of strategy ddp."""
    fsdp: FSDPConfig = field(default_factory=FSDPConfig)
    """Settings of strategy fsdp."""
    deepspeed: DeepSpeedConfig = field(default_factory=DeepSpeedConfig)
    """Settings of strategy deepspeed."""
