"""Lines of fields: text, maybe compressed, whose delimiter the first line shows."""

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
_SEP = "sep="  # a spreadsheet's own first line: it names the delimiter
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def text_suffix(path: Path) -> str:
    """The suffix in lower case, without ``.gz``: of ``A.CSV.gz`` it is ``.csv``."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


@contextmanager
def open_text(path: Path, *, errors: str = "strict") -> Iterator[TextIO]:
    """A text file in UTF-8, or in UTF-16 with its mark, unpacked where its name ends with .gz.

    Raises:
        ValueError: it is no such archive, or a damaged one.
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
            raise ValueError(f"{path}: not a gzip file, or a damaged one ({error}); make it again") from None


def fields_of(file: TextIO, name: str | Path) -> Iterator[tuple[int, list[str]]]:
    """The number of its first line, and the fields, of each record from the file's beginning.

    The delimiter is that of the first line: what ``sep=`` names, else the most frequent of tab, semicolon, comma and
    bar outside of quotes, else blanks where the next line has as many fields by them.

    Args:
        file: from its beginning.
        name: how error messages call it.

    Raises:
        ValueError: the text is not UTF-8, or a field is longer than any table's; the message has the line.
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
        # Where tabs part the fields a quote is a letter like any other.
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
        raise ValueError(f"{name}: line {line} cannot be read: {error}; is a quote left open?") from None


def _line_of_error(name: str | Path) -> str:
    """The line of a file that is no UTF-8, in words; nothing where the file cannot be looked at by lines."""
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
    """The delimiter of a file, and how many lines stand before its header; of what is no text, any."""
    file.seek(0)
    try:
        first, second = file.readline(), file.readline()
    except UnicodeError:  # which `fields_of` explains
        return ",", 0
    named = first.strip().strip('"')
    if named.lower().startswith(_SEP) and len(named) <= len(_SEP) + 2:
        return {"": "\t", "\\t": "\t"}.get(named[len(_SEP) :], named[len(_SEP) :][:1]), 1
    if first.count(DOUBLE_COLON) and first.count(DOUBLE_COLON) >= max(map(first.count, _DELIMITERS[:2])):
        return DOUBLE_COLON, 0
    bare = "".join(first.split('"')[::2])  # what stands outside of quotes
    delimiter = max(_DELIMITERS[:3], key=bare.count)
    if bare.count(delimiter):
        return delimiter, 0
    if "|" in bare:
        return "|", 0
    num_fields = len(first.split())
    is_plain = not set(first + second) & set(_DELIMITERS + '"') and any(map(str.isdigit, second))
    is_blank = num_fields > 1 and len(second.split()) == num_fields and is_plain
    return (WHITESPACE if is_blank else delimiter), 0
