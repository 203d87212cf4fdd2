"""Score the rows of a finished run, on one or several ranks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fastvae.applications.anomalies.reference import Reference
from fastvae.applications.anomalies.scores import Scores
from fastvae.applications.anomalies.stored import read_reference, write_reference
from fastvae.applications.anomalies.terms import (
    Terms,
    column_names,
    column_widths,
    require_table,
    scores_tables,
    term_function,
)
from fastvae.applications.config import ANOMALY_SAMPLES
from fastvae.data import Data, MicroBatch, Source, evaluation_batches
from fastvae.data.table.columns import TABLE_FILE
from fastvae.data.views import evenly_spaced, take
from fastvae.distributed import Rounds
from fastvae.models import VAE
from fastvae.run import Examples, LoadedRun, load
from fastvae.run.chunks import over_examples
from fastvae.train.run_dir.run_dir import RunDir

_MAX_ROWS = 20_000  # training rows that a reference is made of: evenly spaced ones of a larger table


def score_rows(model: VAE, batches: Iterable[MicroBatch], names: Sequence[str], reference: Reference) -> Scores:
    """The scores of rows.

    Args:
        model: a VAE in evaluation mode with the likelihood ``table``.
        batches: rows with their evaluation noise keys.
        names: the names of the C columns.
        reference: the result of `make_reference`.
    """
    terms = Terms.join(map(term_function(model), batches), reference.widths)
    return reference.scores(terms, names)


def make_reference(model: VAE, data: Data, *, seed: int) -> Reference:
    """The reference of a model, in evaluation mode, and the training rows of its data; ``seed`` is the run's."""
    batches = evaluation_batches(_reference_rows(data), data.preprocess, batch_size=512, seed=seed)
    return Reference.of(Terms.join(map(term_function(model), batches), column_widths(data)))


def keep_reference(directory: Path) -> None:
    """Write the reference of a finished run on a table to its directory, so that scores do not read its training rows.

    Nothing is written for a run without anomaly scores, see `scores_tables`.
    """
    if not (RunDir(directory).data / TABLE_FILE).is_file():
        return
    run = load(directory)
    if scores_tables(run):
        write_reference(directory, make_reference(require_table(run), run.data, seed=run.config.seed))


def reference_on_ranks(run: LoadedRun, rounds: Rounds) -> Reference | None:
    """The reference that the run keeps; without one, of its training rows, by ranks that share them.

    Returns:
        The reference; None on ranks other than 0.

    Raises:
        ValueError: the run was not trained on a table.
    """
    model = require_table(run)
    kept = read_reference(run.directory)
    if kept is not None:
        return kept if rounds.is_main else None
    parts = list(over_examples(run, _reference_rows(run.data), term_function(model), rounds))
    return Reference.of(Terms.join(parts, column_widths(run.data))) if rounds.is_main else None


def score_chunks(
    run: LoadedRun,
    examples: Examples,
    rounds: Rounds,
    reference: Reference | None,
    *,
    num_samples: int = ANOMALY_SAMPLES,
) -> Iterator[Scores]:
    """Yield the scores of consecutive rows, by ranks that share them; nothing on ranks other than 0.

    All ranks call this alike, and iterate to the end.

    Args:
        run: a run on a table.
        examples: see `LoadedRun.source`.
        rounds: the ranks.
        reference: the result of `reference_on_ranks`.
        num_samples: number of samples of z that the terms of the ELBO are averaged over.
    """
    names = column_names(run.data)
    for part in over_examples(run, examples, term_function(require_table(run), num_samples), rounds):
        assert reference is not None  # rank 0 receives the parts
        yield reference.scores(Terms.join([part], reference.widths), names)


def score_run(run: LoadedRun, examples: Examples = "test", *, num_samples: int = ANOMALY_SAMPLES) -> Scores:
    """Score the test rows of a finished run, the rows of a file or those of a source.

    Raises:
        ValueError: the run was not trained on a table.
    """
    reference = reference_on_ranks(run, Rounds())
    return Scores.join(list(score_chunks(run, examples, Rounds(), reference, num_samples=num_samples)))


def _reference_rows(data: Data) -> Source:
    """The training rows that a reference is made of: all of them, or evenly spaced ones of a large table."""
    rows = data.all_train
    return rows if len(rows) <= _MAX_ROWS else take(rows, evenly_spaced(len(rows), _MAX_ROWS))
