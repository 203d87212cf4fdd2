"""Downloads from a local server: mirrors in order, checksums, one process at a time, no partial files."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fastvae.data.files.download import RemoteFile, fetch

CONTENT = bytes(range(256)) * 1000


class Mirror(BaseHTTPRequestHandler):
    """A server: ``/good`` sends the file, the other folders fail as their names say."""

    requests: list[str]

    def do_GET(self) -> None:
        folder = self.path.split("/")[1]
        self.requests.append(folder)
        if folder == "missing":
            self.send_error(404)
            return
        body = {"short": CONTENT[:-1], "long": CONTENT + b"x", "other": CONTENT[::-1]}.get(folder, CONTENT)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if folder == "silent":
            time.sleep(1.0)
        if folder == "slow":
            time.sleep(0.3)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client closed the connection
            self.wfile.write(body[:1000] if folder == "breaks" else body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    Mirror.requests = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()
        thread.join()


def remote(*mirrors: str) -> RemoteFile:
    return RemoteFile(
        name="file.gz",
        num_bytes=len(CONTENT),
        crc32=zlib.crc32(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        mirrors=mirrors,
    )


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_a_file_is_downloaded_once(server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "deep" / "folder"
    for _ in range(2):
        assert fetch(remote(f"{server}/good"), folder).read_bytes() == CONTENT
    assert Mirror.requests == ["good"]
    assert left_in(folder) == ["file.gz"]
    assert "downloading file.gz (0.2 MiB)" in capsys.readouterr().err


@pytest.mark.parametrize("bad", ["missing", "short", "long", "other", "silent", "breaks"])
def test_an_invalid_mirror_is_skipped(server: str, tmp_path: Path, bad: str) -> None:
    path = fetch(remote(f"{server}/{bad}", f"{server}/good/"), tmp_path, timeout_s=0.3, show_progress=False)
    assert path.read_bytes() == CONTENT
    assert Mirror.requests == [bad, "good"]
    assert left_in(tmp_path) == ["file.gz"]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("missing", "404"),
        ("short", f"sent {len(CONTENT) - 1} bytes of {len(CONTENT)}"),
        ("long", f"more than the {len(CONTENT)} bytes"),
        ("other", "sent a file with sha256"),
        ("silent", "timed out"),
    ],
)
def test_the_error_without_a_valid_mirror_names_file_and_folder(
    server: str, tmp_path: Path, bad: str, reason: str
) -> None:
    file = remote(f"{server}/{bad}")
    with pytest.raises(ValueError, match=reason) as caught:
        fetch(file, tmp_path, timeout_s=0.3, show_progress=False)
    for words in (file.name, file.sha256, str(tmp_path), f"{server}/{bad}"):
        assert words in str(caught.value)
    assert left_in(tmp_path) == []


def test_the_error_without_a_network_names_the_file(tmp_path: Path) -> None:
    file = remote("http://127.0.0.1:9", "not an address")
    with pytest.raises(ValueError, match=r"could not download file.gz; obtain the file with sha256") as caught:
        fetch(file, tmp_path, show_progress=False)
    assert "refused" in str(caught.value)
    assert left_in(tmp_path) == []


def test_one_of_several_processes_downloads(server: str, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: fetch(remote(f"{server}/slow"), tmp_path, show_progress=False), range(8)))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert Mirror.requests == ["slow"]


def test_a_folder_that_cannot_be_created_is_named(server: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"cannot write file.gz to .*/file/below .*put it into"):
        fetch(remote(f"{server}/good"), tmp_path / "file" / "below", show_progress=False)
