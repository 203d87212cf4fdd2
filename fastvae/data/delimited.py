"""Lines of fields, parted by tabs, semicolons or commas."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import TextIO


def fields_of(file: TextIO) -> Iterator[list[str]]:
    """The fields of each line from the file's beginning; what parts them is what the first line has most of."""
    first = file.readline()
    file.seek(0)
    delimiter = max("\t;,", key=first.count)
    # Where tabs part the fields a quote is a letter like any other.
    return csv.reader(file, delimiter=delimiter, quoting=csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL)
