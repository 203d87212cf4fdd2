"""What a trained VAE says of a table's rows: the terms of the negative ELBO."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastvae.applications.config import ANOMALY_SAMPLES
from fastvae.data import Data, MicroBatch
from fastvae.data.table.columns import TABLE_FILE, columns_from_bytes
from fastvae.generative import AnyModel
from fastvae.likelihoods import BoundTable, Table
from fastvae.models import VAE
from fastvae.run import LoadedRun


@dataclass(frozen=True)
class Terms:
    """The terms of the negative ELBO of N rows, and the rows themselves, on the CPU."""

    latent: Tensor
    """[N] float64 nats, KL(q(z|x) || p(z)): how unusual the row is as a whole."""
    columns: Tensor
    """[N, C] float64 nats, the negative log likelihood of each column; 0 where a value is missing."""
    rows: Tensor
    """[N, P] float64, the rows as the model reads them: scaled numbers and one-hot categories; NaN where missing."""
    widths: tuple[int, ...]
    """Per column the number of its elements in a row: 1 for a number, else the number of categories."""

    @property
    def negative_elbo(self) -> Tensor:
        """[N] float64 nats."""
        return self.latent + self.columns.sum(1)

    @property
    def all(self) -> Tensor:
        """[N, C + 1] float64 nats: the terms of the columns, then the latent term."""
        return torch.cat([self.columns, self.latent[:, None]], dim=1)

    @property
    def is_present(self) -> Tensor:
        """[N, C] bool: whether the row has a value in the column."""
        return torch.stack([~part[:, 0].isnan() for part in self.rows.split(self.widths, dim=1)], dim=1)

    @classmethod
    def join(cls, parts: Iterable[Mapping[str, Tensor]], widths: Sequence[int]) -> Terms:
        """The terms of all rows from those of consecutive batches; see `term_function`."""
        found = list(parts)
        latent, columns, rows = (torch.cat([part[name] for part in found]) for name in ("latent", "columns", "rows"))
        return cls(latent, columns, rows, tuple(widths))


def term_function(model: VAE, num_samples: int = ANOMALY_SAMPLES) -> Callable[[MicroBatch], Mapping[str, Tensor]]:
    """A function from a batch of rows to the tensors of `Terms`.

    The result does not depend on how the rows are batched, because the noise depends only on a row's index in its file.

    Args:
        model: a VAE in evaluation mode with the likelihood ``table``.
        num_samples: number of samples of z that the column terms are averaged over.
    """

    @torch.no_grad()
    def terms(micro: MicroBatch) -> dict[str, Tensor]:
        batch = micro.batch
        posterior = model.encode(batch)
        z, rate, _ = model.prior.rsample_rate(posterior, micro.key, num_samples=num_samples, evaluation=True)
        bound = model.decode(z.view(num_samples, *posterior.mu.shape), batch)
        assert isinstance(bound, BoundTable)
        columns = -bound.log_prob_per_column(batch.target, batch.mask).double().mean(0)
        kl = model.prior.kl(posterior)
        latent = (rate.view(num_samples, -1).mean(0) if kl is None else kl).double()
        rows = batch.target if batch.mask is None else batch.target.masked_fill(~batch.mask, torch.nan)
        return {"latent": latent.cpu(), "columns": columns.cpu(), "rows": rows.double().cpu()}

    return terms


def scores_tables(run: LoadedRun) -> bool:
    """Whether the run's rows have anomaly scores: a VAE with an ELBO and the likelihood ``table``, on a table."""
    model = run.model
    is_vae = isinstance(model, VAE) and isinstance(model.likelihood, Table)
    return run.data.kind == "table" and is_vae and AnyModel(model).estimates_elbo


def require_table(run: LoadedRun) -> VAE:
    """The model of a run that was trained on a table.

    Raises:
        ValueError: the run was not trained on a table, or its model has no terms of the ELBO per column.
    """
    if run.data.kind != "table" or not isinstance(run.model, VAE):
        raise ValueError(
            f"{run.directory} was not trained on a table: its data are of kind {run.data.kind}; train a run on a table"
            " with `fastvae train anomaly-table`"
        )
    AnyModel(run.model).require_elbo("say how unlikely a row is")
    if not isinstance(run.model.likelihood, Table):
        raise ValueError(
            f"{run.directory}: anomaly scores require the likelihood table, got {type(run.model.likelihood).__name__};"
            " train with --model.likelihood table"
        )
    return run.model


def column_names(data: Data) -> tuple[str, ...]:
    """The column names of a table."""
    return tuple(column.name for column in columns_from_bytes(data.state[TABLE_FILE]))


def column_widths(data: Data) -> tuple[int, ...]:
    """The number of elements that each column of a table has in a row."""
    return tuple(column.width for column in columns_from_bytes(data.state[TABLE_FILE]))
