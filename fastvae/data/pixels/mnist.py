"""MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747) from their published files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fastvae.data.files.download import RemoteFile, fetch
from fastvae.data.files.idx import read_idx
from fastvae.data.files.places import cache_folder, data_places
from fastvae.data.source import TensorSource

_IMAGE_SIZE = 28


@dataclass(frozen=True, kw_only=True)
class PublishedSet:
    """A data set of the MNIST family: where its four files are, and what they hold."""

    name: str
    folders: tuple[str, ...]
    """Folder names in a data directory; downloads are written to the first."""
    system_folders: tuple[Path, ...] = ()
    """Folders in which distributions install it."""
    train: tuple[RemoteFile, RemoteFile]
    test: tuple[RemoteFile, RemoteFile]
    num_train: int = 60_000
    num_test: int = 10_000
    label_names: tuple[str, ...] = tuple("0123456789")


def load_published(
    published: PublishedSet, directory: Path | None = None, *, download: bool = True, show_progress: bool = True
) -> tuple[TensorSource, TensorSource]:
    """Train and test images ``[N, 1, 28, 28]`` uint8 with labels.

    Searched for, in this order: in ``directory``, in ``$FASTVAE_DATA``, in the cache directory
    (``$XDG_CACHE_HOME/fastvae``, by default ``~/.cache/fastvae``), in system folders of distributions. Missing files
    are downloaded to ``directory`` if that was given, else to the cache directory.

    Raises:
        ValueError: a file is missing and cannot be downloaded, or it is not the published one.
    """
    parts = []
    for files, num_examples in ((published.train, published.num_train), (published.test, published.num_test)):
        images_path, labels_path = (_locate(published, file, directory, download, show_progress) for file in files)
        images = _read(images_path, files[0], (num_examples, _IMAGE_SIZE, _IMAGE_SIZE))
        labels = _read(labels_path, files[1], (num_examples,))
        if int(labels.max()) >= len(published.label_names):
            raise ValueError(
                f"{labels_path}: labels must be below {len(published.label_names)}, got {int(labels.max())}"
            )
        parts.append(TensorSource(images.unsqueeze(1), labels, levels=256, name=published.name))
    return parts[0], parts[1]


def _locate(published: PublishedSet, file: RemoteFile, directory: Path | None, download: bool, progress: bool) -> Path:
    given = [] if directory is None else [directory]  # the files themselves, without a sub-folder
    candidates = [*given, *data_places(published.folders, directory), *published.system_folders]
    for folder in candidates:
        for name in (file.name, file.name.removesuffix(".gz")):
            if (folder / name).is_file():
                return folder / name
    target = (cache_folder() if directory is None else directory) / published.folders[0]
    if download:
        return fetch(file, target, show_progress=progress)
    places = ", ".join(str(folder) for folder in candidates)
    raise ValueError(
        f"{published.name}: {file.name} (sha256 {file.sha256}) is in none of {places}; put it into {target}"
    )


def _read(path: Path, file: RemoteFile, shape: tuple[int, ...]) -> Tensor:
    array = read_idx(path, max_bytes=torch.Size(shape).numel(), crc32=file.crc32)
    if tuple(array.shape) != shape:
        raise ValueError(f"{path}: shape must be {list(shape)}, got {list(array.shape)}")
    return array


_MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)
_FASHION_MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
)


def _file(mirrors: tuple[str, ...], name: str, num_bytes: int, crc32: int, sha256: str) -> RemoteFile:
    return RemoteFile(name=name, num_bytes=num_bytes, crc32=crc32, sha256=sha256, mirrors=mirrors)


def _mnist(name: str, num_bytes: int, crc32: int, sha256: str) -> RemoteFile:
    return _file(_MNIST_MIRRORS, name, num_bytes, crc32, sha256)


def _fashion(name: str, num_bytes: int, crc32: int, sha256: str) -> RemoteFile:
    return _file(_FASHION_MIRRORS, name, num_bytes, crc32, sha256)


MNIST = PublishedSet(
    name="mnist",
    folders=("mnist", "MNIST/raw"),
    train=(
        _mnist(
            "train-images-idx3-ubyte.gz",
            9_912_422,
            0xE9F4D8B3,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        _mnist(
            "train-labels-idx1-ubyte.gz",
            28_881,
            0xE0CB4AD2,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
    ),
    test=(
        _mnist(
            "t10k-images-idx3-ubyte.gz",
            1_648_877,
            0x91373BDF,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        _mnist(
            "t10k-labels-idx1-ubyte.gz",
            4_542,
            0x4AB9EFF9,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
)

# The sha256 are those of the files whose md5 the authors publish (8d4fb7e6..., 25c81989..., bef4ecab..., bb300cfd...).
FASHION_MNIST = PublishedSet(
    name="fashion-mnist",
    folders=("fashion-mnist", "fashion_mnist", "FashionMNIST/raw"),
    system_folders=(Path("/usr/share/datasets/fashion-mnist"),),  # Debian's package dataset-fashion-mnist
    train=(
        _fashion(
            "train-images-idx3-ubyte.gz",
            26_421_880,
            0xB4F29F28,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        _fashion(
            "train-labels-idx1-ubyte.gz",
            29_515,
            0x741A4657,
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
    ),
    test=(
        _fashion(
            "t10k-images-idx3-ubyte.gz",
            4_422_102,
            0x678FE0B1,
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
        _fashion(
            "t10k-labels-idx1-ubyte.gz",
            5_148,
            0x80142C1F,
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    ),
    label_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
)
