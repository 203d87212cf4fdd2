"""The work of a loaded run in chunks of rows, which the ranks share.

The chunks are the evaluation batches of one process (``train.eval_batch_size`` rows), and the noise of a row is a
function of its index. So the results are equal bit for bit on any number of ranks with the same number of threads.
Rank 0 receives all chunks in order; the iterators of other ranks yield nothing and must be iterated to the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fastvae.data import Data, MicroBatch, Source, evaluation_batch
from fastvae.distributed import Rounds
from fastvae.distributions import DiagonalGaussian
from fastvae.evaluate import Evaluation, combine_parts, evaluation_part, scores
from fastvae.generative import AnyModel, mean_of
from fastvae.records import Batch
from fastvae.run.config import RunConfig

Examples = Any  # "train", "test", a file or folder, a source, or an object in memory (see `LoadedRun.source`)


class RunParts(Protocol):
    """The members of a `LoadedRun` that the work on its examples uses."""

    @property
    def config(self) -> RunConfig:
        """The configuration."""
        ...

    @property
    def data(self) -> Data:
        """The data."""
        ...

    @property
    def model(self) -> nn.Module:
        """The model, in evaluation mode."""
        ...

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        ...

    def source(self, examples: Examples = "test") -> Source:
        """Return examples as a source."""
        ...

    def batch(self, indices: Tensor, examples: Examples = "test") -> Batch:
        """Some examples, by their indices int64 [B], as evaluation sees them."""
        ...


@torch.no_grad()
def over_examples(
    run: RunParts,
    examples: Examples,
    compute: Callable[[MicroBatch], Mapping[str, Tensor]],
    rounds: Rounds | None = None,
) -> Iterator[Mapping[str, Tensor]]:
    """Yield the tensors that ``compute`` returns for each chunk of the examples, on the CPU.

    Args:
        run: the run.
        examples: see `LoadedRun.source`.
        compute: takes the examples of a chunk and their key.
        rounds: the ranks that share the chunks; None is this process alone.
    """
    source, rows = run.source(examples), run.config.train.eval_batch_size

    @torch.no_grad()
    def chunk(number: int) -> Mapping[str, Tensor]:
        first, stop = number * rows, min((number + 1) * rows, len(source))
        batch = evaluation_batch(source, run.data.preprocess, first, stop, seed=run.config.seed, device=run.device)
        return compute(batch)

    yield from (rounds or Rounds()).in_order(-(-len(source) // rows), chunk)


def evaluate_run(run: RunParts, num_samples: int = 1, rounds: Rounds | None = None) -> Evaluation | None:
    """The evaluation of the test set; None on ranks other than 0.

    Raises:
        ValueError: ``num_samples`` is below 1.
    """
    if num_samples < 1:
        raise ValueError(f"evaluate: num_samples must be at least 1, got {num_samples}")
    parts = over_examples(run, "test", lambda micro: evaluation_part(run.model, micro, num_samples=num_samples), rounds)
    if rounds is not None and not rounds.is_main:
        drain(parts)
        return None
    return combine_parts(
        run.model,
        parts,
        num_samples=num_samples,
        log_jacobian_nats=run.data.log_jacobian_nats,
        event_numel=run.data.event_numel,
    )


def score_chunks(
    run: RunParts, examples: Examples = "test", *, num_samples: int = 1, rounds: Rounds | None = None
) -> Iterator[Tensor]:
    """Yield the scores of each chunk, float64 [B]; see `LoadedRun.score`.

    Raises:
        ValueError: ``num_samples`` is below 1, or a score is not finite; the message has the index of its example.
    """
    if num_samples < 1:
        raise ValueError(f"score: num_samples must be at least 1, got {num_samples}")

    def score(micro: MicroBatch) -> dict[str, Tensor]:
        (found,) = scores(run.model, [micro], num_samples=num_samples)
        not_finite = (~found.isfinite()).nonzero().flatten().tolist()
        if not_finite:
            raise ValueError(
                f"score: example {micro.first_row + not_finite[0]} scores {float(found[not_finite[0]])}, which is not"
                " finite; are the examples on the scale of the training's?"
            )
        return {"score": found}

    for chunk in over_examples(run, examples, score, rounds):
        yield chunk["score"]


def encode_chunks(
    run: RunParts, examples: Examples = "test", rounds: Rounds | None = None
) -> Iterator[Mapping[str, Tensor]]:
    """Yield the posteriors of each chunk and, if the data have them, its labels; see `LoadedRun.encode`."""
    source, able = run.source(examples), AnyModel(run.model)
    labels = source.labels

    def encode(micro: MicroBatch) -> dict[str, Tensor]:
        posterior = able.encode(micro.batch)
        found = {"mu": mean_of(posterior).float()}
        if isinstance(posterior, DiagonalGaussian):
            found["logvar"] = posterior.logvar.float()
        if labels is not None:
            found["label"] = labels[micro.first_row : micro.first_row + micro.size]
        return found

    yield from over_examples(run, source, encode, rounds)


def drain(chunks: Iterable[Any]) -> None:
    """Take this rank's part in work whose results rank 0 receives."""
    for _ in chunks:
        pass
