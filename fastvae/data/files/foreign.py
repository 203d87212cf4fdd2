"""Files of other programs: detection and remedies."""

from __future__ import annotations

from pathlib import Path

from fastvae.data.files.folders import endings, visible_files

_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (such as .h5, .h5ad, .mat of MATLAB 7.3)", "save the array as .npy or .npz"),
    (b"MATLAB 5.0", "a MATLAB file", "save its array as .npy: numpy.save(FILE, scipy.io.loadmat(...)[NAME])"),
    (b"SQLite format 3\0", "an SQLite database", "export a table of it as CSV"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel file of before 2007 (.xls)", "save it as .xlsx or CSV"),
    (b"%PDF", "a PDF document", "export its data as CSV"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it"),
    (b"\x80\x04\x95", "a pickle, which can run code", "save its numbers as .npy, .npz or CSV"),
    (b"\x80\x05\x95", "a pickle, which can run code", "save its numbers as .npy, .npz or CSV"),
    (b"SIMPLE  =", "a FITS file", "save its array as .npy"),
    (b"CDF\x01", "a NetCDF file", "save its array as .npy"),
    (b"CDF\x02", "a NetCDF file", "save its array as .npy"),
    (b"Obj\x01", "an Avro file", "save it as Parquet or CSV"),
    *((b"BZh%d1AY&SY" % level, "a bzip2 archive", "unpack it") for level in range(1, 10)),
    (b"\xfd7zXZ\0", "an xz archive", "unpack it"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it"),
)
_READ = (".npy", ".npz", ".parquet", ".pq", ".arrow", ".feather", ".ipc", ".xlsx", ".xlsm")
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")
_START_BYTES = 64


def check_not_foreign(path: Path) -> None:
    """Check that a file is not one of another program, except for names that are supported.

    Raises:
        ValueError: it is; the message names the format and the remedy.
    """
    if not path.is_file() or path.suffix.lower() in _READ:
        return
    with path.open("rb") as file:
        start = file.read(_START_BYTES)
    name = path.name.lower()
    for signature, what, remedy in _SIGNATURES:
        if start.startswith(signature):
            raise ValueError(f"{path}: is {what}, which is not supported; {remedy}")
    if start.startswith((b"PAR1", b"ARROW1")):
        kind = ".parquet" if start.startswith(b"PAR1") else ".arrow"
        raise ValueError(f"{path}: is a {kind[1:]} file by its content; rename it to end with {kind}")
    if name.endswith(_PACKED) or start.startswith(b"PK\x03\x04"):
        raise ValueError(f"{path}: is a compressed archive, which is not supported; unpack it and use the folder")
    if start.startswith(b"\x1f\x8b") and not name.endswith(".gz"):
        raise ValueError(f"{path}: is a gzip file by its content; rename it to end with .gz, or decompress it")


def what_a_folder_holds(path: Path) -> str:
    """Describe the files of a folder for the end of an error message; empty for a file."""
    if not path.is_dir():
        return ""
    files = sorted(visible_files(path))
    if not files:
        return "; the folder is empty"
    packed = any(file.name.lower().endswith(_PACKED) for file in files)
    remedy = ", which do not allow random access: decompress them (but keep .tar files)" if packed else ""
    return f"; it contains {endings(files)}{remedy}"
