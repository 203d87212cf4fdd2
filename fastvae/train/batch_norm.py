"""BatchNorm in a user's model: what it does to a run, said or refused before the first step."""

from __future__ import annotations

from torch import nn

_KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def check_batch_norm(model: nn.Module, min_rows: int) -> tuple[str, ...]:
    """Check that every micro-batch has enough examples for the model's BatchNorm, if it has any.

    Args:
        model: the model.
        min_rows: smallest number of examples in a micro-batch of one process.

    Returns:
        A line to print if the model has BatchNorm: runs on other numbers of processes then differ.

    Raises:
        ValueError: a micro-batch can have fewer than 2 examples.
    """
    names = [name for name, module in model.named_modules() if isinstance(module, _KINDS)]
    if not names:
        return ()
    remedy = "use nn.LayerNorm or nn.GroupNorm instead"
    if min_rows < 2:
        raise ValueError(
            f"train: BatchNorm ({names[0]}) needs at least 2 examples in every process and micro-batch, got {min_rows};"
            f" raise train.global_batch_size, or {remedy}"
        )
    return (
        f"BatchNorm ({names[0]}): its statistics depend on how a batch is split, so the result depends on the number of"
        f" processes and micro-batches; {remedy}",
    )
