"""Words of a command line become a dataclass, or one line that says what is wrong."""

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
    """The command line is wrong. Of many processes, which all read the same one, the first says so."""


def parse(
    kind: type[T],
    words: Sequence[str],
    command: str,
    default: T | None = None,
    beside: Sequence[type] = (),
    others: Sequence[str] = (),
) -> T:
    """A ``kind`` from the words of its command line.

    Args:
        kind: a dataclass.
        words: of the command line.
        command: what stands before them.
        default: the values of options that the words do not give.
        beside: the kinds whose options were taken out of the words before; a wrong option may be meant as one of them.
        others: more options that were taken out.

    Raises:
        UsageError: an option is unknown, and the message has the nearest name; or a value breaks a rule.
    """
    parsed, unread = _read(kind, words, command, {} if default is None else {"default": default})
    if unread:
        known = [f"--{name}" for each in (kind, *beside) for name in option_names(each)]
        known += [*others, "--plugin"]
        raise UsageError(unknown("option", unread[0].split("=")[0], known) + f"; see fastvae {command} --help")
    return parsed


def _read(kind: type[T], words: Sequence[str], command: str, options: dict[str, Any]) -> tuple[T, list[str]]:
    """What tyro makes of the words, and those it does not know; what it says in a frame becomes one line."""
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
    """The first section of a framed message, on one line.

    Where the output's encoding has no frames, rows of dashes stand between a title, the sections and the help.
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
    """The options of a (nested) dataclass, as the command line spells them."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        name = prefix + field.name.replace("_", "-")
        if dataclasses.is_dataclass(hints[field.name]):
            yield from option_names(hints[field.name], name + ".")
        else:
            yield name


def unknown(what: str, name: str, known: Sequence[str]) -> str:
    """One line that names what is unknown and the nearest thing that is known."""
    near = nearest(name.replace("_", "-"), known)
    return f"no {what} is named {name!r}" + (f"; did you mean {near}?" if near else "")


def nearest(name: str, known: Sequence[str]) -> str | None:
    """What was probably meant: a name that ends in the same word or in its initials, else one spelled alike."""
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
    """``learning-rate`` of ``--train.learning-rate``."""
    return option.lstrip("-").rpartition(".")[2]


def parse_some(kind: type[T], words: Sequence[str], command: str) -> tuple[T, list[str]]:
    """A ``kind`` from the words that are its options, and the other words as they were."""
    return _read(kind, words, command, {})
