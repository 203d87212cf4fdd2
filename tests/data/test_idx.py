"""The IDX parser: valid files are read, all others raise a ValueError."""

from __future__ import annotations

import gzip
import io
import struct
import tempfile
import tracemalloc
import zlib
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastvae.data.files.idx import read_idx


def idx_bytes(shape: tuple[int, ...], data: bytes, *, element: int = 8) -> bytes:
    return struct.pack(f">HBB{len(shape)}I", 0, element, len(shape), *shape) + data


def written(folder: Path, content: bytes) -> Path:
    path = folder / "file-idx3-ubyte.gz"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
@pytest.mark.parametrize("shape", [(5,), (3, 2), (2, 3, 4), (0, 28, 28), (1, 1, 1, 1)])
def test_arrays_are_read_back(tmp_path: Path, shape: tuple[int, ...], pack: type[bytes]) -> None:
    num = int(torch.Size(shape).numel())
    content = idx_bytes(shape, bytes(range(num)))
    array = read_idx(written(tmp_path, pack(content)), crc32=zlib.crc32(content))
    assert array.dtype == torch.uint8
    assert tuple(array.shape) == shape
    assert array.flatten().tolist() == list(range(num))


@settings(deadline=None, max_examples=50)
@given(shape=st.lists(st.integers(0, 6), min_size=1, max_size=4), zipped=st.booleans(), fill=st.integers(0, 255))
def test_arrays_of_any_shape_are_read_back(shape: list[int], zipped: bool, fill: int) -> None:
    data = bytes([fill]) * torch.Size(shape).numel()
    content = idx_bytes(tuple(shape), data)
    with tempfile.TemporaryDirectory() as folder:
        array = read_idx(written(Path(folder), gzip.compress(content) if zipped else content))
    assert list(array.shape) == shape
    assert bytes(array.flatten().tolist()) == data


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "truncated: 4 bytes expected here, 0 found"),
        (b"\x00\x00\x08", "truncated"),
        (b"\x00\x00\x08\x03\x00\x00", "truncated"),
        (idx_bytes((2, 2), b"abc"), "truncated: 4 bytes expected here, 3 found"),
        (idx_bytes((2, 2), b"abcde"), "longer than"),
        (idx_bytes((2, 2), b"abcd", element=0x0D), "begins with 00 00 08"),
        (b"\x01" + idx_bytes((2,), b"ab")[1:], "begins with 00 00 08"),
        (idx_bytes((), b"a"), "begins with 00 00 08"),
        (idx_bytes((1,) * 5, b"a"), "1 to 4 dimensions"),
        (b"<html>404 not found</html>", "begins with 00 00 08"),
        (idx_bytes((2**31, 2**31), b""), "the limit is"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_invalid_content_is_refused(tmp_path: Path, content: bytes, words: str, zipped: bool) -> None:
    path = written(tmp_path, gzip.compress(content) if zipped else content)
    with pytest.raises(ValueError, match=words) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_content_that_differs_from_the_published_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, gzip.compress(idx_bytes((2,), b"ab")))
    with pytest.raises(ValueError, match=r"not the published file .CRC-32 .*, published 0000002a"):
        read_idx(path, crc32=42)


@pytest.mark.parametrize("keep", [2, 5, 10, 11, 20, -9, -8, -4, -1])
def test_truncated_gzip_is_refused(tmp_path: Path, keep: int) -> None:
    whole = gzip.compress(idx_bytes((50,), bytes(range(50))))
    with pytest.raises(ValueError, match="truncated or damaged"):
        read_idx(written(tmp_path, whole[:keep]))


def test_flipped_bits_never_change_the_array(tmp_path: Path) -> None:
    whole = gzip.compress(idx_bytes((50,), bytes(range(50))))
    num_refused = 0
    for position in range(10, len(whole)):  # the first ten bytes hold nothing but a time and flags
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[position] ^= 1 << bit
            try:
                assert read_idx(written(tmp_path, bytes(flipped))).tolist() == list(range(50))
            except ValueError:
                num_refused += 1
    assert num_refused >= 8 * (len(whole) - 10) - 7  # all but the few bits that pad the last byte of the data


def test_a_gzip_bomb_allocates_no_memory(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb") as file:
        file.write(idx_bytes((1000,), b""))
        for _ in range(200):
            file.write(bytes(2**20))
    path = written(tmp_path, buffer.getvalue())
    tracemalloc.start()
    with pytest.raises(ValueError, match="longer than the 1000"):
        read_idx(path)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 2**23


def test_a_false_header_allocates_no_memory(tmp_path: Path) -> None:
    path = written(tmp_path, idx_bytes((2**30,), b"few"))
    tracemalloc.start()
    with pytest.raises(ValueError, match="truncated"):
        read_idx(path, max_bytes=2**30)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 2**23


@settings(deadline=None, max_examples=300)
@given(content=st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(lambda tail: b"\x1f\x8b\x08\x00" + tail)))
def test_any_bytes_are_parsed_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), content)
        try:
            array = read_idx(path, max_bytes=2**16)
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017 (both outcomes are right)
        else:
            assert array.dtype == torch.uint8


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_a_damaged_file_is_parsed_or_refused(data: st.DataObject) -> None:
    whole = bytearray(gzip.compress(idx_bytes((5, 2, 2), bytes(range(20)))))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), bytes(whole))
        try:
            assert read_idx(path, max_bytes=2**16).numel() <= 2**16
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "nothing")
