"""Lines of fields, parted by tabs, semicolons or commas."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import TextIO


def fields_of(file: TextIO) -> Iterator[list[str]]:
    """The fields of each line from the file's beginning; what parts them is what the first line has most of.

    Raises:
        ValueError: the text is not UTF-8, or a field is longer than any table's; the message names the file.
    """
    line = 0
    try:
        first = file.readline()
        file.seek(0)
        delimiter = max("\t;,", key=first.count)
        # Where tabs part the fields a quote is a letter like any other.
        rows = csv.reader(file, delimiter=delimiter, quoting=csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL)
        for row in rows:
            line = rows.line_num
            yield row
    except UnicodeDecodeError as error:
        byte = f"{error.object[error.start]:#x}"
        raise ValueError(f"{file.name}: must be UTF-8 text, got byte {byte}; save the file as UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"{file.name}: line {line + 1} cannot be read: {error}; is a quote left open?") from None
