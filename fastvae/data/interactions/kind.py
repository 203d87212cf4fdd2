"""Interactions of users with items as a kind of data."""

from __future__ import annotations

from pathlib import Path

from fastvae.data.kind import Form, Handlers, Kind


def _handlers() -> Handlers:
    from fastvae.data.interactions.files import is_interactions_file
    from fastvae.data.interactions.render import ItemRenderer
    from fastvae.data.interactions.source import Counts
    from fastvae.data.interactions.users import (
        load_movielens,
        load_own_interactions,
        read_matrix,
        read_own_interactions,
    )

    return Handlers(
        datasets={"movielens-100k": load_movielens},
        forms=(
            Form(
                "a CSV, TSV or .inter file of users and items (or .npz of a sparse matrix)",
                is_interactions_file,
                load_own_interactions,
                read_own_interactions,
                suits=Path.is_file,
            ),
        ),
        preprocess=Counts,
        restore=lambda state, described: Counts(),
        read_object=read_matrix,
        renderer=lambda data: ItemRenderer(),
    )


KIND = Kind(
    name="interactions",
    datasets=("movielens-100k",),
    options=("interactions",),
    takes_test_path=False,
    needs_no_examples="recommend with --items, --similar or --data, and sample, do not need users of the run",
    load_handlers=_handlers,
)
