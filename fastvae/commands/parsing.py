"""Parse command-line arguments into a dataclass; an error is one line."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import os
import typing
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import tyro

T = TypeVar("T")


class UsageError(ValueError):
    """The command line is wrong. Of several processes with the same command line, only the first reports it."""


def parse(
    kind: type[T],
    words: Sequence[str],
    command: str,
    default: T | None = None,
    other_kinds: Sequence[type] = (),
    others: Sequence[str] = (),
) -> T:
    """Parse command-line arguments into a ``kind``.

    Args:
        kind: a dataclass.
        words: arguments of the command line.
        command: command that precedes them.
        default: values of options that are not given.
        other_kinds: classes whose options were parsed before; suggestions include them.
        others: more options that were removed.

    Raises:
        UsageError: an option is unknown (the message suggests the nearest name), or a value breaks a rule.
    """
    parsed, unread = _read(kind, words, command, {} if default is None else {"default": default})
    if unread:
        known = [f"--{name}" for each in (kind, *other_kinds) for name in option_names(each)]
        known += [*others, "--plugin"]
        raise UsageError(unknown("option", unread[0].split("=")[0], known) + f"; see fastvae {command} --help")
    return parsed


def _read(kind: type[T], words: Sequence[str], command: str, options: dict[str, Any]) -> tuple[T, list[str]]:
    """Return tyro's result and the unknown arguments; a framed error message is put on one line."""
    said = io.StringIO()
    options["console_outputs"] = is_first_process()
    try:
        with contextlib.redirect_stderr(said):
            parsed: tuple[T, list[str]] = tyro.cli(
                kind, args=words, prog=f"fastvae {command}", return_unknown_args=True, **options
            )
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error
    except SystemExit as error:
        if not error.code:
            raise  # --help, on stdout
        raise UsageError(f"{unframed(said.getvalue())}; see fastvae {command} --help") from error
    return parsed


def unframed(message: str) -> str:
    """Return the first section of a framed message, on one line.

    If the output's encoding has no box characters, rows of dashes separate title, sections and help.
    """
    lines: list[str] = []
    titled = False
    for line in message.splitlines():
        inside = line.strip().strip("│").strip()
        dashes = bool(inside) and not inside.strip("-")
        if dashes and not titled:
            lines, titled = [], True
            continue
        if lines and (dashes or inside.startswith("─")):
            break
        if inside and inside[0] not in "╭╰":
            lines.append(inside)
    return " ".join(lines).rstrip(".")


def is_first_process() -> bool:
    """Whether this is the only process, or rank 0 of those that a launcher started."""
    return os.environ.get("RANK", "0") == "0"


def option_names(kind: type, prefix: str = "") -> Iterator[str]:
    """Yield the options of a (nested) dataclass as they are spelled on the command line."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        name = prefix + field.name.replace("_", "-")
        if dataclasses.is_dataclass(hints[field.name]):
            yield from option_names(hints[field.name], name + ".")
        else:
            yield name


def unknown(what: str, name: str, known: Sequence[str]) -> str:
    """Return one line with the unknown name and the nearest known name."""
    near = nearest(name.replace("_", "-"), known)
    return f"no {what} is named {name!r}" + (f"; did you mean {near}?" if near else "")


def nearest(name: str, known: Sequence[str]) -> str | None:
    """Return the most likely intended name: one with the same last word or initials, else with similar spelling."""
    word = last_word(name)
    initials = "".join(part[:1] for part in word.split("-"))
    same_end = [each for each in known if last_word(each) in (word, initials)]
    if same_end:
        return max(same_end, key=lambda each: difflib.SequenceMatcher(None, name, each).ratio())
    if alike := difflib.get_close_matches(name, known, n=1):
        return alike[0]
    ends = {last_word(each): each for each in reversed(known)}
    alike = difflib.get_close_matches(word, ends, n=1)
    return ends[alike[0]] if alike else None


def last_word(option: str) -> str:
    """Return ``learning-rate`` for ``--train.learning-rate``."""
    return option.lstrip("-").rpartition(".")[2]


def parse_some(kind: type[T], words: Sequence[str], command: str) -> tuple[T, list[str]]:
    """Parse the arguments that are options of ``kind``; also return the remaining arguments."""
    return _read(kind, words, command, {})
