"""Tables of numbers and categories as a kind of data."""

from __future__ import annotations

from pathlib import Path

from fastvae.data.kind import Form, Handlers, Kind


def _handlers() -> Handlers:
    from fastvae.data.table.columns import MaskGaps
    from fastvae.data.table.file import is_table_file
    from fastvae.data.table.render import TableRenderer
    from fastvae.data.table.tables import load_breast_cancer, load_table, read_rows, read_rows_in_memory

    return Handlers(
        datasets={"breast-cancer": load_breast_cancer},
        forms=(
            Form(
                "a CSV, TSV, Parquet, Arrow, Excel or npz file of numbers",
                is_table_file,
                load_table,
                read_rows,
                suits=Path.is_file,
            ),
        ),
        preprocess=MaskGaps,
        restore=lambda state, described: MaskGaps(),
        read_object=read_rows_in_memory,
        renderer=lambda data: TableRenderer(),
    )


KIND = Kind(name="table", datasets=("breast-cancer",), options=("table",), load_handlers=_handlers)
