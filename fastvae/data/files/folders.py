"""Data files of a folder, and a summary of the files that are skipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

_SHOWN = 6  # endings in a message


@dataclass(frozen=True)
class Listing:
    """The files of a folder and its sub-folders, sorted by path."""

    folder: Path
    paths: tuple[Path, ...]
    """Data files."""
    num_hidden: int
    """Files whose name, or folder name, starts with a dot: previews and metadata of other programs."""
    others: tuple[Path, ...]
    """All others."""

    def line(self, what: str, details: Collection[str] = ()) -> str:
        """Return a summary: how many files were read, how many skipped, and why."""
        read = f"{self.folder}: {len(self.paths):,} {what} read ({endings(self.paths)})"
        passed = [f"{self.num_hidden:,} hidden"] if self.num_hidden else []
        passed += [f"{len(self.others):,} of other kinds ({endings(self.others)})"] if self.others else []
        return "; ".join([read, *details, *([f"skipped: {', '.join(passed)}"] if passed else [])])


def list_folder(folder: Path, extensions: Collection[str]) -> Listing:
    """List the files of a folder with the suffixes of data, and the others."""
    paths, others, num_hidden = [], [], 0
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        if is_hidden(path, folder):
            num_hidden += 1
        elif path.suffix.lower() in extensions:
            paths.append(path)
        else:
            others.append(path)
    return Listing(folder, tuple(paths), num_hidden, tuple(others))


def visible_files(folder: Path) -> Iterator[Path]:
    """The files of a folder and its sub-folders, except hidden ones, in arbitrary order."""
    return (path for path in folder.rglob("*") if not is_hidden(path, folder) and path.is_file())


def is_hidden(path: Path, folder: Path) -> bool:
    """Whether a path relative to the folder has a name that starts with a dot."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def endings(paths: Collection[Path]) -> str:
    """Count the suffixes of files, the most frequent first."""
    counts = Counter(path.suffix.lower() or "no ending" for path in paths).most_common()
    shown = ", ".join(f"{count:,} {ending}" for ending, count in counts[:_SHOWN])
    return shown + (", ..." if len(counts) > _SHOWN else "")
