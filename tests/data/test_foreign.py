"""Files of other programs are identified in errors."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

import numpy as np
import pytest

from fastvae.data import DataConfig, build_data


@pytest.mark.parametrize("kind", ["file", "table"])
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.h5ad", b"\x89HDF\r\n\x1a\n" + bytes(40), "is an HDF5 file .*save the array as .npy"),
        ("x.csv", b"\x89HDF\r\n\x1a\n" + bytes(40), "is an HDF5 file"),
        ("x.mat", b"MATLAB 5.0 MAT-file, Platform", "is a MATLAB file"),
        ("x.db", b"SQLite format 3\0", "is an SQLite database"),
        ("x.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", r"Excel file of before 2007 \(.xls\).*save it as .xlsx"),
        ("x.pkl", b"\x80\x04\x95\x05", "is a pickle, which can run code"),
        ("x.zip", b"PK\x03\x04" + bytes(30), "is a compressed archive"),
        ("x.tar.gz", gzip.compress(b"tar", mtime=0), "is a compressed archive"),
        ("x.csv", gzip.compress(b"a,b\n1,2\n", mtime=0), "is a gzip file by its content; rename it to end with .gz"),
        ("data", b"PAR1" + bytes(30), "is a parquet file by its content; rename it to end with .parquet"),
    ],
)
def test_files_of_other_programs_are_identified(
    tmp_path: Path, kind: str, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        build_data(DataConfig(name=kind, path=tmp_path / name))
    assert "\n" not in str(caught.value)


def test_the_error_for_an_unusable_folder_lists_its_content(tmp_path: Path) -> None:
    config = DataConfig(name="file", path=tmp_path)
    with pytest.raises(ValueError, match=r"must be .*; the folder is empty"):
        build_data(config)
    (tmp_path / "a.dat").write_bytes(bytes(9))
    (tmp_path / ".hidden.png").write_bytes(b"?")
    with pytest.raises(ValueError, match=r"it contains 1 .dat"):
        build_data(config)
    with tarfile.open(tmp_path / "shard.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "a.dat", "a.npy")
    with pytest.raises(ValueError, match=r"it contains 1 .dat, 1 .gz, which do not allow random access"):
        build_data(config)


def test_file_extensions_ignore_case(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(40.0).reshape(20, 2))
    (tmp_path / "x.npy").rename(tmp_path / "X.NPY")
    assert build_data(DataConfig(name="file", path=tmp_path / "X.NPY")).event_shape == (2,)
    np.savez(tmp_path / "x.npz", x=np.arange(40.0).reshape(20, 2))
    (tmp_path / "x.npz").rename(tmp_path / "X.NPZ")
    assert build_data(DataConfig(name="file", path=tmp_path / "X.NPZ")).event_shape == (2,)
