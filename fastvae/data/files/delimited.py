"""Delimited text, possibly compressed, whose delimiter is detected from the first line."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

WHITESPACE = " "  # as a delimiter: runs of blanks
DOUBLE_COLON = "::"  # that of MovieLens
_DELIMITERS = "\t;,|"
_SEP = "sep="  # first line of some spreadsheets, which sets the delimiter
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def text_suffix(path: Path) -> str:
    """The suffix in lower case, without ``.gz``: of ``A.CSV.gz`` it is ``.csv``."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


@contextmanager
def open_text(path: Path, *, errors: str = "strict") -> Iterator[TextIO]:
    """A text file in UTF-8, or in UTF-16 with a byte-order mark, decompressed if its name ends with .gz.

    Raises:
        ValueError: it is not a gzip file, or is damaged.
    """
    is_packed = path.name.lower().endswith(".gz")
    with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) if is_packed else raw as file:
        try:
            start = file.read(2)
            file.seek(0)
            encoding = "utf-16" if start in _UTF16 else "utf-8-sig"
            text = io.TextIOWrapper(file, encoding=encoding, errors=errors, newline="")
            try:
                yield text
            finally:
                text.detach()
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: not a gzip file, or damaged ({error}); create it again") from None


def fields_of(file: TextIO, name: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the fields of each record from the beginning of the file.

    The delimiter is detected from the first line: ``sep=`` sets it; otherwise it is the most frequent of tab,
    semicolon, comma and bar outside of quotes, or whitespace if the next line has as many fields by it.

    Args:
        file: text file, read from its beginning.
        name: name in error messages.

    Raises:
        ValueError: the text is not UTF-8, or a field is longer than any table's; the message names the line.
    """
    line = 1
    try:
        delimiter, skipped = find_delimiter(file)
        file.seek(0)
        for _ in range(skipped):
            file.readline()
        line += skipped
        if delimiter in (WHITESPACE, DOUBLE_COLON):
            for text in file:
                bare = text.strip()
                yield line, bare.split(None if delimiter == WHITESPACE else DOUBLE_COLON) if bare else []
                line += 1
            return
        # If tabs separate the fields, a quote is an ordinary character.
        rows = csv.reader(
            file,
            delimiter=delimiter,
            quoting=csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL,
            skipinitialspace=delimiter != "\t",
        )
        for row in rows:
            yield line, row
            line = rows.line_num + skipped + 1
    except UnicodeDecodeError as error:
        byte = f"{error.object[error.start]:#x}"
        raise ValueError(
            f"{name}: must be UTF-8 text, got byte {byte}{_line_of_error(name)}; save the file as UTF-8, or convert"
            " it: iconv -f latin1 -t utf-8"
        ) from None
    except UnicodeError as error:
        raise ValueError(f"{name}: its UTF-16 text is damaged ({error}); save the file as UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"{name}: line {line} cannot be read: {error}; is a quote not closed?") from None


def _line_of_error(name: str | Path) -> str:
    """Describe the first line of a file that is not UTF-8; empty if lines cannot be read."""
    if isinstance(name, str) or name.name.lower().endswith(".gz"):
        return ""
    with name.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return f" in line {number}"
    return ""


def find_delimiter(file: TextIO) -> tuple[str, int]:
    """Return the delimiter of a file and the number of lines before its header; arbitrary if it is not text."""
    file.seek(0)
    try:
        first, second = file.readline(), file.readline()
    except UnicodeError:  # reported by `fields_of`
        return ",", 0
    named = first.strip().strip('"')
    if named.lower().startswith(_SEP) and len(named) <= len(_SEP) + 2:
        return {"": "\t", "\\t": "\t"}.get(named[len(_SEP) :], named[len(_SEP) :][:1]), 1
    if first.count(DOUBLE_COLON) and first.count(DOUBLE_COLON) >= max(map(first.count, _DELIMITERS[:2])):
        return DOUBLE_COLON, 0
    bare = "".join(first.split('"')[::2])  # the text outside of quotes
    delimiter = max(_DELIMITERS[:3], key=bare.count)
    if bare.count(delimiter):
        return delimiter, 0
    if "|" in bare:
        return "|", 0
    num_fields = len(first.split())
    is_plain = not set(first + second) & set(_DELIMITERS + '"') and any(map(str.isdigit, second))
    is_blank = num_fields > 1 and len(second.split()) == num_fields and is_plain
    return (WHITESPACE if is_blank else delimiter), 0
