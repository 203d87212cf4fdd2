"""Users' .npy and .npz files: valid arrays are read, hostile files are refused."""

from __future__ import annotations

import io
import tempfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastvae.data.files.arrays import load_arrays
from fastvae.data.source import TensorSource

LIMIT = 2**20


def saved(path: Path, **arrays: Any) -> Path:
    if path.suffix == ".npy":
        np.save(path, arrays["x"])
    else:
        np.savez(path, **arrays)
    return path


def load(path: Path, max_bytes: int = LIMIT) -> TensorSource:
    return load_arrays(path, max_bytes=max_bytes)[0]


def every(source: TensorSource) -> torch.Tensor:
    return source[torch.arange(len(source))]


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize(
    ("array", "dtype", "levels"),
    [
        (np.arange(12, dtype=np.uint8).reshape(3, 4) * 20, torch.uint8, 256),
        (np.arange(12, dtype=">i4").reshape(3, 4) * 20, torch.uint8, 256),
        (np.eye(3, dtype=bool), torch.uint8, 2),
        (np.linspace(-1, 1, 12).reshape(3, 4), torch.float32, None),
        (np.linspace(-1, 1, 12, dtype=">f4").reshape(3, 4), torch.float32, None),
        (np.asfortranarray(np.linspace(-1, 1, 12, dtype=np.float16).reshape(3, 4)), torch.float32, None),
    ],
)
def test_numbers_of_every_kind_are_read(
    tmp_path: Path, suffix: str, array: np.ndarray[Any, Any], dtype: torch.dtype, levels: int | None
) -> None:
    source = load(saved(tmp_path / f"mine{suffix}", x=array))
    assert (source.dtype, source.levels) == (dtype, levels)
    assert np.array_equal(every(source).numpy(), array.astype(np.float32))


@pytest.mark.parametrize(
    ("shape", "event_shape"),
    [
        ((5, 7), (7,)),
        ((5, 7, 6), (1, 7, 6)),
        ((5, 3, 7, 6), (3, 7, 6)),
        ((5, 7, 6, 3), (3, 7, 6)),
        ((5, 7, 6, 1), (1, 7, 6)),
        ((5, 1, 7, 1), (1, 7, 1)),
        ((5, 2, 3, 4, 2), (2, 3, 4, 2)),
    ],
)
def test_images_are_converted_to_channels_first(
    tmp_path: Path, shape: tuple[int, ...], event_shape: tuple[int, ...]
) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    source = load(saved(tmp_path / "mine.npy", x=array))
    assert source.event_shape == event_shape
    if shape[-1] == 3:
        assert torch.equal(every(source), torch.from_numpy(array).permute(0, 3, 1, 2))


@pytest.mark.parametrize("name", ["x", "X", "data", "images", "arr_0", "whatever"])
@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_are_selected_by_name(tmp_path: Path, name: str, compressed: bool) -> None:
    path = tmp_path / "mine.npz"
    (np.savez_compressed if compressed else np.savez)(path, **{name: np.ones((3, 2))})
    assert every(load(path)).tolist() == [[1.0, 1.0]] * 3


def test_labels_and_test_sets_are_selected_by_name(tmp_path: Path) -> None:
    x = np.zeros((4, 2))
    source = load(saved(tmp_path / "one.npz", X=x, y=np.array([[3.0], [1.0], [0.0], [2.0]])))
    assert source.labels is not None
    assert source.labels.tolist() == [3, 1, 0, 2]
    path = saved(tmp_path / "two.npz", x_train=x, y_train=np.arange(4), x_test=x[:2] + 1, y_test=np.arange(2))
    train, test = load_arrays(path, max_bytes=LIMIT)
    assert test is not None
    assert (len(train), len(test)) == (4, 2)
    assert every(test).tolist() == [[1.0, 1.0]] * 2
    assert test.labels is not None
    assert test.labels.tolist() == [0, 1]
    assert load_arrays(saved(tmp_path / "three.npz", x_train=x), max_bytes=LIMIT)[1] is None


class Trap:
    """An object that writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_pickled_objects_are_refused_and_not_run(tmp_path: Path, suffix: str) -> None:
    array = np.array([[Trap(tmp_path / "sprung")]], dtype=object)
    with pytest.raises(ValueError, match="pickled Python objects"):
        load(saved(tmp_path / f"mine{suffix}", x=array))
    structured = np.zeros((2, 2), dtype=[("a", "f4"), ("b", "O")])
    with pytest.raises(ValueError, match="pickled Python objects"):
        load(saved(tmp_path / f"two{suffix}", x=structured))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(3), r"\[N, D\], \[N, H, W\].*got shape \[3\]"),
        (np.zeros((0, 3)), r"not empty, got shape \[0, 3\]"),
        (np.zeros((3, 0)), "not empty"),
        (np.full((2, 2), 256), r"integers are pixels and must be in 0 .. 255, got 256 .. 256"),
        (np.full((2, 2), -1), r"got -1 .. -1"),
        (np.array([[1.0], [np.nan]]), "NaN or infinity in example 1"),
        (np.array([[1e300], [1.0]]), "NaN or infinity in example 0"),
        (np.zeros((2, 2), dtype=complex), "numbers, got '<c16'"),
        (np.array([["text"]]), "numbers, got '<U4'"),
        (np.zeros((2, 2), dtype="M8[s]"), "numbers, got '<M8"),
        (np.zeros((2, 2), dtype=[("a", "f4")]), "numbers, got \\[\\("),
        (np.zeros((400, 400)), r"0.00 GiB; more than the limit of 0.00 GiB .--data.max-gib."),
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_unsuitable_arrays_are_refused(tmp_path: Path, array: np.ndarray[Any, Any], words: str, suffix: str) -> None:
    path = saved(tmp_path / f"mine{suffix}", x=array)
    with pytest.raises(ValueError, match=words) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_an_archive_without_examples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got a, b"):
        load(saved(tmp_path / "mine.npz", a=np.zeros((2, 2)), b=np.zeros((2, 2))))
    with zipfile.ZipFile(tmp_path / "none.npz", "w") as archive:
        archive.writestr("../../evil.txt", "text")
    with pytest.raises(ValueError, match="got no arrays"):
        load(tmp_path / "none.npz")
    with pytest.raises(ValueError, match=r"labels must have shape \[2\]"):
        load(saved(tmp_path / "labels.npz", x=np.zeros((2, 2)), y=np.zeros(3)))


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"PK\x03\x04" + bytes(50), b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff{"]
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_files_that_are_not_arrays_are_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"not a readable .npz archive|not an array in NumPy's format") as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    for name in ("mine.npy", "mine.npz"):
        with pytest.raises(FileNotFoundError):
            load(tmp_path / name)


def npy_bytes(header: str, data: bytes) -> bytes:
    body = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body + data


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2**40, 2**40), "than the limit of"),
        ((2**17, 2), "truncated: 1048576 bytes of numbers expected, 8 found"),
        ((1, 1), "longer than the 4"),
        ((-1, -2), "sizes must be whole numbers >= 0"),
        (("a",), "sizes must be whole numbers >= 0"),
        (7, "not an array in NumPy's format: damaged header"),
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_false_headers_allocate_no_memory(tmp_path: Path, shape: Any, words: str, suffix: str) -> None:
    content = npy_bytes(str({"descr": "<f4", "fortran_order": False, "shape": shape}), bytes(8))
    path = tmp_path / f"mine{suffix}"
    if suffix == ".npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", content)
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=words):
        load(path)


def test_a_zip_bomb_allocates_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        member.write(npy_bytes("{'descr': '|u1', 'fortran_order': False, 'shape': (1000, 10)}", b""))
        for _ in range(100):
            member.write(bytes(2**20))
    tracemalloc.start()
    with pytest.raises(ValueError, match="longer than the 10000"):
        load(path)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 2**23


@settings(deadline=None, max_examples=200)
@given(suffix=st.sampled_from([".npy", ".npz"]), data=st.data())
def test_a_damaged_file_is_parsed_or_refused(suffix: str, data: st.DataObject) -> None:
    buffer = io.BytesIO()
    if suffix == ".npy":
        np.save(buffer, np.arange(6, dtype=np.uint8).reshape(3, 2))
    else:
        np.savez_compressed(buffer, x=np.arange(6, dtype=np.uint8).reshape(3, 2), y=np.arange(3))
    whole = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"mine{suffix}"
        path.write_bytes(bytes(whole))
        try:
            assert len(load(path)) > 0
        except (ValueError, TypeError) as error:
            assert str(path) in str(error)  # noqa: PT017 (both outcomes are right)
